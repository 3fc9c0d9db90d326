//! Whatever a client sends on the control socket is read or refused in words, and never longer ones than a reply may have; and
//! whatever stands in a lane's parameters opens a lane of a kernel or is refused.

use ringlane_layout::limits::REFUSAL_BYTES_MAX;
use ringlane_sidecar::control::parse;
use ringlane_sidecar::kernels::door::Kernels;

use super::Target;

/// The target.
pub const TARGET: Target = Target { name: "control_messages", run, seeds };

fn run(bytes: &[u8]) {
    if let Err(refusal) = parse(bytes) {
        assert!(refusal.code == "PROTOCOL" && refusal.words.len() <= REFUSAL_BYTES_MAX);
    }
    let Ok(message) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    for kernel in ["digests", "vectors"] {
        if let Some(Err(words)) = Kernels::built_in().open(kernel, &message["parameters"]) {
            assert!(!words.contains("panicked"), "{words}");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let messages = [
        r#"{"op":"hello","layout_version":2,"build":"0a1b","name":"x","id":1}"#,
        r#"{"op":"open","kernel":"orders","depth":64,"events":64,"accounts":[1,9],"cancel_on_disconnect":true,"id":2}"#,
        r#"{"op":"open","kernel":"vectors","depth":64,"parameters":{"dim":8,"op":"search","corpus":"c","k":3,"dtype":"int8"}}"#,
        r#"{"op":"open","kernel":"digests","depth":64,"parameters":{"algorithm":"sha256","arena_bytes":4096,"max_concurrent":2}}"#,
        r#"{"op":"close","lane":1}"#,
        r#"{"op":"snapshot"}"#,
        r#"{"op":"query","what":"book","symbol":1,"levels":5}"#,
        r#"{"op":"query","what":"orders","account":1}"#,
        r#"{"op":"query","what":"state","id":18446744073709551615}"#,
        r#"{"op":"admin","what":"limits","limits":{"first":1,"last":2,"position_max":5}}"#,
        r#"{"op":"admin","what":"add_instrument","instrument":{"name":"X","tick":1}}"#,
        r#"{"op":"admin","what":"cancel_all","symbol":0,"account":0,"lane":0}"#,
    ];
    messages.map(|message| message.into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_messages() {
        for seed in seeds() {
            parse(&seed).unwrap_or_else(|refusal| panic!("{}: {}", String::from_utf8_lossy(&seed), refusal.words));
        }
    }
}
