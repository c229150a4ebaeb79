//! The picture of an image's chunks as one page of HTML that needs nothing from outside: no scripts, fonts or images.
//!
//! Everything that comes from an image or the command line goes through [`Html`]: whatever a file is called, it is text.

use std::fmt::{self, Write};

use dimsum_engine::analysis::chunks::{ChunkMap, PackMap, StoredParts};
use dimsum_engine::analysis::sharing::ChunkSum;

use super::chunks_text::in_words;
use super::count::Count;
use super::svg::{Cells, strip};
use crate::output::{Name, Size};

/// Text for HTML: unprintable characters escaped as on a terminal, the rest as HTML wants it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Html<'a>(pub(super) &'a [u8]);

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in Name(self.0).to_string().chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Returns the page. `cells` were given to [`ChunkMap::new`] as what watches the files.
#[must_use]
pub fn page(map: &ChunkMap, cells: &Cells) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _infallible = write_page(map, cells, &mut out);
    out
}

fn write_page(map: &ChunkMap, cells: &Cells, out: &mut String) -> fmt::Result {
    let name = Html(map.image.as_bytes());
    write!(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>chunks of {name}</title>\n")?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}")?;
    for number in 0..map.with.len() {
        write!(out, ".s{number}{{fill:{0};background:{0}}}", colour(number))?;
    }
    writeln!(out, "</style></head><body><main>")?;
    writeln!(out, "<h1>{name}</h1><p class=\"id\">{}</p>", map.manifest)?;
    tiles(map, out)?;
    whole(map, out)?;
    legend(map, cells, out)?;
    for (number, pack) in map.packs.iter().enumerate() {
        pack_section(number, pack, map, cells, out)?;
    }
    directories(map, out)?;
    matrix(map, out)?;
    writeln!(
        out,
        "<footer>Made by <code>dimsum inspect --chunks --html</code> from the verified meta alone: no file data was read. Widths and percentages are stored (compressed) bytes; a chunk that is used in part counts by its blocks.</footer></main></body></html>"
    )
}

/// Colours of other images: apart from each other and from those of the classes.
fn colour(number: usize) -> String {
    const FIRST: [&str; 8] = ["#f28e2b", "#59a14f", "#b07aa1", "#d4a017", "#e15759", "#2aa198", "#9c755f", "#d37295"];
    match FIRST.get(number) {
        Some(colour) => (*colour).to_owned(),
        // The golden angle keeps neighbours apart.
        None => format!("hsl({} 55% 55%)", number.saturating_mul(137) % 360),
    }
}

fn tiles(map: &ChunkMap, out: &mut String) -> fmt::Result {
    let sum = |part: fn(&PackMap) -> u64| map.packs.iter().map(part).sum::<u64>();
    let chunks = sum(|pack| pack.chunks.len() as u64);
    let (device, used) = (sum(|pack| pack.device_bytes), sum(|pack| pack.used_bytes));
    out.push_str("<div class=\"tiles\">");
    for (what, value) in [
        ("stored", Size(map.stored_bytes).to_string()),
        ("uncompressed data", Size(device).to_string()),
        ("of it used by the tree", Size(used).to_string()),
        ("packs", map.packs.len().to_string()),
        ("chunks", chunks.to_string()),
        ("files", map.files.to_string()),
    ] {
        write!(out, "<div><b>{value}</b>{what}</div>")?;
    }
    out.push_str("</div>\n");
    Ok(())
}

/// The parts of the stored bytes, with their colours and what they mean.
fn parts(map: &ChunkMap) -> [(&'static str, &'static str, u64, &'static str); 6] {
    let StoredParts { own, shared, beside, dead, layer_metas, meta } = map.parts;
    let in_none =
        if map.with.is_empty() { "used by the tree" } else { "used by the tree, in none of the images below" };
    [
        ("own", "own", own, in_none),
        ("shared", "s0", shared, "used by the tree, and in another image too"),
        ("beside", "bes", beside, "not used, in chunks that are: fetched along"),
        ("dead", "dead", dead, "chunks of which nothing is used: fetched by a fill only"),
        ("layer metas", "lm", layer_metas, "what packs say of themselves, for converters: fetched by a fill only"),
        ("meta", "meta", meta, "tree and maps: fetched first"),
    ]
}

fn whole(map: &ChunkMap, out: &mut String) -> fmt::Result {
    out.push_str("<h2>What the stored bytes are</h2><div class=\"bar\">");
    let all = map.stored_bytes.max(1) as f64;
    for (name, class, bytes, _) in parts(map).into_iter().filter(|part| part.2 > 0) {
        let percent = bytes as f64 * 100.0 / all;
        write!(out, "<i class=\"{class}\" style=\"width:{percent:.2}%\" title=\"{name}: {}\"></i>", Size(bytes))?;
    }
    out.push_str("</div><table class=\"key\">");
    for (name, class, bytes, what) in parts(map).into_iter().filter(|part| part.2 > 0) {
        let percent = bytes as f64 * 100.0 / all;
        let size = Size(bytes);
        write!(out, "<tr><td><i class=\"dot {class}\"></i>{name}<td>{size}<td>{percent:.1} %<td>{what}")?;
    }
    out.push_str("</table>\n");
    Ok(())
}

fn legend(map: &ChunkMap, cells: &Cells, out: &mut String) -> fmt::Result {
    out.push_str("<h2>Where they lie</h2><p class=\"legend\">");
    if map.with.is_empty() {
        write!(out, "<span><i class=\"dot own\"></i>used</span>")?;
    } else {
        write!(out, "<span><i class=\"dot own\"></i>only in this image</span>")?;
    }
    for (number, other) in map.with.iter().enumerate() {
        write!(out, "<span><i class=\"dot s{number}\"></i>also in {}</span>", Html(other.image.as_bytes()))?;
    }
    out.push_str("<span><i class=\"dot bes\"></i>unused part of a chunk</span><span><i class=\"dot dead\"></i>unused chunk</span>");
    out.push_str("<span><i class=\"dot bundle\"></i>a line on top: a bundle of small files</span></p>");
    out.push_str("<p>Each box is ");
    match cells.per_cell() {
        1 => out.push_str("a chunk: what is fetched and verified at once. "),
        many => write!(out, "{many} neighbouring chunks (a chunk is what is fetched and verified at once). ")?,
    }
    out.push_str("Its width is what it costs to store and to fetch, its coloured height the share of its blocks that the tree uses. ");
    out.push_str("A chunk that several images have has the colour of the first. All packs have one scale, and are read like text. Point at a box to see what is in it.</p>\n");
    Ok(())
}

fn pack_section(number: usize, pack: &PackMap, map: &ChunkMap, cells: &Cells, out: &mut String) -> fmt::Result {
    let (stored, device) = (Size(pack.bytes), Size(pack.device_bytes));
    let percent = pack.bytes as f64 * 100.0 / map.stored_bytes.max(1) as f64;
    write!(out, "<section><h3>pack {number} <b>{stored}</b> <small>{percent:.1} % of the image</small>")?;
    if pack.on_node {
        out.push_str(" <small class=\"here\">whole on this node</small>");
    } else if pack.node.chunks > 0 {
        write!(out, " <small class=\"here\">{} on this node</small>", Size(pack.node.stored))?;
    }
    let used = Size(pack.used_bytes);
    write!(out, "</h3><p class=\"facts\">{device} uncompressed, {used} used · {}", in_words(pack))?;
    for (other, sum) in pack.shared_with.iter().enumerate().filter(|(_, sum)| sum.chunks > 0) {
        write!(out, " · <i class=\"dot s{other}\"></i>{}, {}", Count(sum.chunks, "chunk"), Size(sum.stored))?;
    }
    write!(out, "<br><code>{}</code>", pack.digest)?;
    if let Some(layer) = &pack.source_diff_id {
        write!(out, " of layer <code>{}</code>", Html(layer.as_bytes()))?;
    }
    if let Some(image) = &pack.foreign {
        write!(out, " of another image, <code>{}</code>", Html(image.as_bytes()))?;
    }
    out.push_str("</p>");
    strip(number, pack, &map.with, cells, out)?;
    out.push_str("</section>\n");
    Ok(())
}

fn directories(map: &ChunkMap, out: &mut String) -> fmt::Result {
    if map.directories.is_empty() {
        return Ok(());
    }
    out.push_str("<h2>Dearest directories</h2><p>Stored bytes of what is below them, each block once, for the first file that uses it.</p><table class=\"bill\">");
    let most = map.directories.first().map_or(1, |bill| bill.stored.max(1)) as f64;
    for bill in &map.directories {
        let width = bill.stored as f64 * 100.0 / most;
        let (stored, bytes, path) = (Size(bill.stored), Size(bill.bytes), Html(&bill.raw));
        write!(
            out,
            "<tr><td>{stored}<td class=\"w\"><i class=\"own\" style=\"width:{width:.1}%\"></i><td>{bytes} uncompressed<td><code>/{path}</code>"
        )?;
    }
    out.push_str("</table>\n");
    Ok(())
}

fn matrix(map: &ChunkMap, out: &mut String) -> fmt::Result {
    if map.with.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = std::iter::once(&*map.image).chain(map.with.iter().map(|other| &*other.image)).collect();
    out.push_str("<h2>What the images share</h2><p>Stored bytes of the chunks that two images have in common; on the diagonal, of all chunks of one.</p><table class=\"matrix\"><tr><th>");
    for number in 0..names.len() {
        write!(out, "<th>{}", letter(number))?;
    }
    for (number, (row, name)) in map.matrix.iter().zip(&names).enumerate() {
        write!(out, "<tr><th class=\"n\">{} {}", letter(number), Html(name.as_bytes()))?;
        let all = row.get(number).map_or(1, |sum| sum.stored.max(1)) as f64;
        for (column, ChunkSum { chunks, bytes, stored }) in row.iter().enumerate() {
            let share = *stored as f64 * 100.0 / all;
            let class = if column == number { " class=\"all\"" } else { "" };
            let alpha = share.round().clamp(0.0, 100.0) * 0.6;
            write!(
                out,
                "<td{class} style=\"background:rgb(59 111 182/{alpha:.0}%)\" title=\"{chunks} chunks, {} uncompressed\">{}<small>{share:.0} %</small>",
                Size(*bytes),
                Size(*stored)
            )?;
        }
    }
    out.push_str("</table>\n");
    Ok(())
}

/// `A` for this image, `B` for the first of the others.
fn letter(number: usize) -> String {
    let letter = u32::try_from(number).ok().and_then(|number| char::from_u32(u32::from('A').saturating_add(number)));
    letter.filter(char::is_ascii_uppercase).map_or_else(|| format!("{number}"), String::from)
}

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2733;--dim:#687787;--line:#e3e8ed;--bes:#cfd6dd;--dead:#eceff2}\
@media(prefers-color-scheme:dark){:root{--bg:#14191f;--fg:#dde5ec;--dim:#8a99a8;--line:#2a333d;--bes:#46525e;--dead:#28313a}}\
body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;margin:0}main{max-width:1200px;margin:auto;padding:24px}\
h1{font-size:24px;margin:0;overflow-wrap:anywhere}h2{font-size:18px;margin:32px 0 8px}h3{font-size:15px;font-weight:600;margin:20px 0 0}\
p{margin:4px 0;color:var(--dim)}.id,code{font:12px ui-monospace,monospace;overflow-wrap:anywhere}small{color:var(--dim);font-weight:400}\
.here{color:#2f9e44}.facts{font-size:13px}\
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:16px 0}.tiles div{border:1px solid var(--line);border-radius:8px;padding:8px 16px;color:var(--dim);font-size:13px}\
.tiles b{display:block;font-size:20px;color:var(--fg)}\
.bar{display:flex;height:28px;border-radius:6px;overflow:hidden}.bar i{min-width:1px}\
table{border-collapse:collapse;font-size:13px}td,th{padding:3px 10px;text-align:right;border-bottom:1px solid var(--line)}td:first-child,td:last-child,th.n{text-align:left}\
.bill td:first-child,.matrix td:last-child{text-align:right}.w{width:220px}.w i{display:block;height:10px;border-radius:3px}\
.matrix small{display:block}.matrix .all{font-weight:600}.key{margin-top:8px}\
.dot{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px}.legend span{margin-right:18px;white-space:nowrap}\
svg{display:block;width:100%;height:auto;margin-top:6px}svg g:hover{opacity:.55}\
.own{fill:#3b6fb6;background:#3b6fb6}.bes{fill:var(--bes);background:var(--bes)}\
.dead{fill:var(--dead);background:var(--dead);stroke:var(--bes);stroke-width:.5}.lm{background:#8fa3b8}.meta{background:#16324f}\
.b{fill:#16324f;fill-opacity:.55}.dot.bundle{background:#16324f;height:4px;vertical-align:4px}\
.s0{fill:#f28e2b;background:#f28e2b}footer{margin-top:40px;font-size:12px;color:var(--dim)}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let show = |text: &[u8]| Html(text).to_string();
        assert_eq!(
            show(b"<script>alert('x')</script>&\""),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"
        );
        assert_eq!(show("a\u{202e}\x00b\u{ff}".as_bytes()), "a\\u{202e}\\u{0}b\u{ff}");
        assert_eq!(show(b"\xff<"), "\\xff&lt;");
    }

    #[test]
    fn images_have_different_colours_and_letters() {
        let colours: std::collections::HashSet<String> = (0..31).map(colour).collect();
        assert_eq!(colours.len(), 31);
        assert_eq!((letter(0), letter(25), letter(26)), ("A".into(), "Z".into(), "26".into()));
    }
}
