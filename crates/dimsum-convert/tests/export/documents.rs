//! Manifest and config are those of an ordinary image.

use dimsum_convert::export::{ExportMode, ExportOptions};
use dimsum_format::manifest::{ImageConfig, Manifest};
use dimsum_format::media;

use crate::image::{Layout, blob, export_to};
use crate::sources::{Case, noise, small_options};
use crate::tar::{file, whiteout};

#[test]
fn nothing_of_ours_is_left_and_nothing_of_theirs_is_lost() {
    let case =
        Case::new(&[vec![file("a", noise(9_000, 1)), file("b", "b")], vec![whiteout("b")], vec![file("c", "c")]]);
    let converted = case.convert(&small_options());
    let image = Layout::open(&case.target(), converted.manifest);
    for (mode, layers) in [(ExportMode::PerLayer, 3), (ExportMode::Flatten, 1)] {
        let target = case.dir.path().join(format!("{mode:?}"));
        let exported = export_to(&image, &target, &ExportOptions { mode, ..ExportOptions::default() }, &()).unwrap();
        let bytes = blob(&target, exported.manifest);
        let manifest = Manifest::parse(&bytes).unwrap();
        assert!(!String::from_utf8(bytes).unwrap().contains("dimsum"));
        assert!(!manifest.is_dimsum());
        assert_eq!(manifest.media_type.as_deref(), Some(media::MANIFEST));
        assert_eq!(manifest.config.media_type, media::CONFIG);
        assert_eq!(manifest.layers.len(), layers);
        let config = ImageConfig::parse(&blob(&target, exported.config.digest)).unwrap();
        let keys: Vec<_> = config.object().keys().map(String::as_str).collect();
        assert_eq!(keys, ["created", "architecture", "config", "os", "rootfs", "history", "zebra"]);
        assert_eq!(config.object()["config"]["X-Unknown"], serde_json::json!([1, 2]));
        let history = config.object()["history"].as_array().unwrap();
        let full = history.iter().filter(|entry| entry.get("empty_layer") != Some(&true.into())).count();
        assert_eq!(full, layers);
        assert_eq!(history[0]["created_by"], "layer 0");
    }
}

#[test]
fn a_level_is_one_of_the_compression() {
    use dimsum_convert::export::LayerCompression;
    let case = Case::new(&[vec![file("a", noise(9_000, 1))]]);
    let converted = case.convert(&small_options());
    let image = Layout::open(&case.target(), converted.manifest);
    for (compression, level, fine) in [
        (LayerCompression::Gzip, 0, false),
        (LayerCompression::Gzip, 1, true),
        (LayerCompression::Gzip, 9, true),
        (LayerCompression::Gzip, 10, false),
        (LayerCompression::Zstd, 19, true),
        (LayerCompression::Zstd, 20, false),
    ] {
        let options = ExportOptions { compression, level: Some(level), ..ExportOptions::default() };
        let result = export_to(&image, &case.dir.path().join("exported"), &options, &());
        assert_eq!(result.is_ok(), fine, "{compression:?} {level}");
    }
}
