//! The interface's size, as counted in cri-api 0.36.3: a lost line in `proto/api.proto` shows here.

#[test]
fn the_interface_has_41_rpcs_170_messages_463_fields_and_11_enums() {
    let files = protox::compile(["proto/api.proto"], ["proto"]).expect("proto/api.proto compiles");
    let file = files.file.iter().find(|file| file.name() == "api.proto").expect("the file itself is in the set");
    assert_eq!((file.package(), file.syntax()), ("runtime.v1", "proto3"));

    let rpcs = |service: &str| {
        let service = file.service.iter().find(|found| found.name() == service).expect(service);
        (service.method.len(), service.method.iter().filter(|rpc| rpc.server_streaming()).count())
    };
    assert_eq!(file.service.len(), 2);
    assert_eq!(rpcs("RuntimeService"), (35, 6), "rpcs, of which stream");
    assert_eq!(rpcs("ImageService"), (6, 1), "rpcs, of which stream");

    // Each map field makes a hidden nested message, which the interface's authors did not write.
    let written = file.message_type.iter().filter(|message| !message.options.as_ref().is_some_and(|o| o.map_entry()));
    let nested_enums = file.message_type.iter().map(|message| message.enum_type.len()).sum::<usize>();
    assert_eq!(written.clone().count(), 170);
    assert_eq!(written.map(|message| message.field.len()).sum::<usize>(), 463);
    assert_eq!(file.enum_type.len() + nested_enums, 11);
}

#[test]
fn numbers_that_are_easily_mistaken_are_right() {
    let files = protox::compile(["proto/api.proto"], ["proto"]).expect("proto/api.proto compiles");
    let file = files.file.iter().find(|file| file.name() == "api.proto").expect("the file itself is in the set");
    let number = |message: &str, field: &str| {
        let message = file.message_type.iter().find(|found| found.name() == message).expect(message);
        message.field.iter().find(|found| found.name() == field).map(|found| found.number()).expect(field)
    };
    for (message, field, wanted) in [
        ("ImageSpec", "user_specified_image", 18),
        ("ImageSpec", "image_ref", 20),
        ("Namespace", "options", 2),
        ("NamespaceOption", "userns_options", 5),
        ("LinuxContainerSecurityContext", "seccomp", 15),
        ("ContainerConfig", "CDI_devices", 17),
        ("ContainerConfig", "stop_signal", 18),
        ("Container", "image_id", 10),
        ("ContainerStatus", "image_id", 17),
    ] {
        assert_eq!(number(message, field), wanted, "{message}.{field}");
    }
}
