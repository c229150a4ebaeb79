//! Wishes that the engine refuses, in the words of the options that name them.

use dimsum_engine::RequestFault;

use super::Error;

/// Returns the refusal of a wish.
pub(super) fn refused(object: String, fault: RequestFault) -> Error {
    use RequestFault as F;
    let usage =
        |option: &str, reason: &str, hint| Error::Usage { object: option.to_owned(), reason: reason.to_owned(), hint };
    let in_target = "it looks for images in the repository that the image would be pushed to";
    match fault {
        F::ReuseForbidden => {
            usage("--reuse-from", "nothing is taken from it with --reuse never", "leave one of the two out")
        }
        F::ReuseByTag => usage(
            &object,
            "--reuse-from takes an image by its digest, since a tag may be moved",
            "name it by @sha256:… as `dimsum inspect` shows it",
        ),
        F::AutoWithoutTarget => usage("--dedup-with auto", in_target, "name that with --target"),
        F::ReuseWithoutTarget => usage("--reuse", in_target, "name that with --target"),
        F::TreeWithOriginal => usage(
            &object,
            "--with-original is for images: a directory has no image that could stand beside the new one",
            "leave the option out",
        ),
        F::OrdinaryAlready => usage(&object, &fault.to_string(), "`dimsum copy SOURCE TARGET` copies it as it is"),
        F::LayersAreOriginal => usage(
            &format!("--{object}"),
            &fault.to_string(),
            "add --no-original to rebuild the layers and compress them so, or leave the option out",
        ),
        F::SharingIsOver => usage(&object, &fault.to_string(), "name the ordinary image that it was made of"),
        _ => usage(&object, &fault.to_string(), "see `dimsum COMMAND --help`"),
    }
}
