//! The generated code in the repository is what the `.proto` files say.

use std::{env, fs, path::Path};

const FILES: [&str; 5] = [
    "weft/registry/v1/registry.proto",
    "weft/admin/v1/admin.proto",
    "weft/extension/v1/extension.proto",
    "weft/identity/v1/identity.proto",
    "spiffe/workload.proto",
];

#[test]
fn generated_code_matches_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = env::temp_dir().join(format!("weft-proto-{}", std::process::id()));
    fs::create_dir_all(&fresh).expect("temporary directory");
    let descriptors = protox::compile(FILES, [root]).expect("the .proto files compile");
    tonic_prost_build::configure()
        .out_dir(&fresh)
        .btree_map(".")
        .compile_fds(descriptors)
        .expect("code generation");
    // What has no package is generated under this name.
    const NO_PACKAGE: &str = "_.rs";
    let named = [
        ("weft.registry.v1.rs", "weft.registry.v1.rs"),
        ("weft.admin.v1.rs", "weft.admin.v1.rs"),
        ("weft.extension.v1.rs", "weft.extension.v1.rs"),
        ("weft.identity.v1.rs", "weft.identity.v1.rs"),
        (NO_PACKAGE, "spiffe.workload.rs"),
    ];
    for (made, name) in named {
        let wanted = fs::read_to_string(fresh.join(made)).expect("generated file");
        let kept = root.join("src/generated").join(name);
        if env::var_os("WEFT_BLESS").is_some() {
            fs::write(&kept, &wanted).expect("write generated file");
        }
        let found = fs::read_to_string(&kept).unwrap_or_default();
        assert!(found == wanted, "{name} is out of date: run WEFT_BLESS=1 cargo test -p weft-proto");
    }
    fs::remove_dir_all(&fresh).expect("clean up");
}
