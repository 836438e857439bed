use freehold_config::{json_schema, reference_markdown};

#[test]
fn the_reference_is_the_one_in_the_documentation() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    for (name, text) in [("deploy-file.md", reference_markdown()), ("deploy-file.schema.json", json_schema())]
    {
        let file = fs_err::read_to_string(folder.join(name)).unwrap();
        assert!(
            file == text,
            "`docs/reference/{name}` is not what the table of keys gives: run `cargo xtask reference`"
        );
    }
}
