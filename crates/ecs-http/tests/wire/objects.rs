//! ImportImage and ExportImage over the wire.

use cloud::{Bucket, Settings};
use ecs_http::Limits;

use crate::{
    harness::{Service, wait},
    signing::{Key, signed},
};

/// A service with the bucket `images` in a directory of its own.
fn service() -> (Service, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let bucket = Bucket { directory: directory.path().to_owned(), accounts: None };
    let buckets = [("images".to_owned(), bucket)].into();
    let settings = Settings { buckets, ..Settings::default() };
    (Service::with(Limits::default(), settings), directory)
}

fn wait_for(service: &Service, key: &Key, task: &str) {
    wait(|| {
        let shown = service.call(key, "DescribeTaskAttribute", &[("TaskId", task)]).ok();
        assert_ne!(shown["TaskStatus"], "Failed", "{shown}");
        shown["TaskStatus"] == "Finished" && shown["TaskProcess"] == "100%"
    });
}

#[test]
fn an_image_comes_from_a_bucket_and_goes_to_it() {
    let (service, directory) = service();
    let key = service.key();
    std::fs::write(directory.path().join("base.raw"), vec![9; 1 << 20]).unwrap();
    let base = [
        ("DiskDeviceMapping.1.OSSBucket", "images"),
        ("DiskDeviceMapping.1.OSSObject", "base.raw"),
        ("DiskDeviceMapping.1.Format", "RAW"),
        ("ImageName", "from-a-bucket"),
        ("ClientToken", "c-1"),
    ];
    let import = |more: &[(&'static str, &'static str)]| {
        service.call(&key, "ImportImage", &[&base[..], more].concat())
    };
    service.call(&key, "ImportImage", &[]).refused("MissingParameter.DiskDeviceMapping", 403);
    import(&[("DiskDeviceMapping.1.OSSObject", "")]).refused("MissingParameter", 400);
    import(&[("DiskDeviceMapping.2.OSSObject", "x")]).refused("MissingParameter", 400);
    import(&[("DiskDeviceMapping.1.OSSBucket", "no")]).refused("InvalidOSSBucket.NotFound", 400);
    import(&[("DiskDeviceMapping.1.OSSObject", "../x")]).refused("InvalidOSSObject.Malformed", 400);
    import(&[("DiskDeviceMapping.1.OSSObject", "x")]).refused("InvalidOSSObject.NotFound", 400);
    import(&[("DiskDeviceMapping.1.Format", "VHD")]).refused("InvalidImageFormat.Malformed", 400);
    import(&[("DiskDeviceMapping.1.Format", "QCOW2")]).refused("InvalidImageFormat.Malformed", 400);
    import(&[("DiskDeviceMapping.1.DiskImageSize", "0")]).refused("InvalidImageSize", 400);
    import(&[("Architecture", "vax")]).refused("InvalidArchitecture.Malformed", 400);
    import(&[("OSType", "beos")]).refused("InvalidOSType.Malformed", 400);
    import(&[("DryRun", "true")]).refused("DryRunOperation", 400);
    let begun = import(&[]).ok();
    let text = |field: &str| begun[field].as_str().unwrap().to_owned();
    let (image, task) = (text("ImageId"), text("TaskId"));
    assert_eq!(begun["RegionId"], "cn-hangzhou");
    wait_for(&service, &key, &task);
    assert_eq!(import(&[]).text("ImageId"), image, "the same token, the same answer");
    import(&[("ClientToken", "c-2")]).refused("InvalidImageName.Duplicated", 400);
    let (_, disks) = service.instance(&key, &image, &[]);
    assert_eq!(disks.len(), 1);

    let second = |device| {
        import(&[
            ("DiskDeviceMapping.2.OSSBucket", "images"),
            ("DiskDeviceMapping.2.OSSObject", "base.raw"),
            ("DiskDeviceMapping.2.DiskImageSize", "5"),
            ("DiskDeviceMapping.2.Device", device),
            ("ImageName", "of-two"),
            ("ClientToken", "c-3"),
        ])
    };
    second("/dev/xvda").refused("InvalidDevice.Malformed", 400);
    let begun = second("/dev/xvdf").ok();
    let text = |field: &str| begun[field].as_str().unwrap().to_owned();
    wait_for(&service, &key, &text("TaskId"));
    let found = service.call(&key, "DescribeImages", &[("ImageId", &text("ImageId"))]).ok();
    let mapping = &found["Images"]["Image"][0]["DiskDeviceMappings"]["DiskDeviceMapping"][1];
    assert_eq!((&mapping["Device"], &mapping["Size"]), (&"/dev/xvdf".into(), &"5".into()));
    let (_, disks) = service.instance(&key, &text("ImageId"), &[]);
    assert_eq!(disks.len(), 2);

    let base = [("ImageId", image.as_str()), ("OSSBucket", "images"), ("OSSPrefix", "out")];
    let export = |more: &[(&'static str, &'static str)]| {
        service.call(&key, "ExportImage", &[&base[..], more].concat())
    };
    export(&[("ImageId", "")]).refused("MissingParameter", 400);
    export(&[("OSSBucket", "")]).refused("MissingParameter", 400);
    export(&[("ImageId", "m-no")]).refused("InvalidImageId.NotFound", 404);
    export(&[("OSSBucket", "no")]).refused("InvalidOSSBucket.NotFound", 400);
    export(&[("OSSPrefix", "a/b")]).refused("InvalidOSSPrefix.Malformed", 400);
    export(&[("ImageFormat", "vdi")]).refused("InvalidImageFormat.Malformed", 400);
    export(&[("DryRun", "true")]).refused("DryRunOperation", 400);
    let xml = service.send(signed(&key, "GET", "XML", "ExportImage", &base).request("GET"));
    assert_eq!(xml.status, 200, "{}", xml.body);
    let task = xml.body.split("<TaskId>").nth(1).unwrap().split('<').next().unwrap();
    wait_for(&service, &key, task);
    let object = directory.path().join(format!("out_{image}_system.raw"));
    wait(|| object.exists());
    assert_eq!(std::fs::read(object).unwrap(), vec![9; 1 << 20]);
    service
        .call(&key, "CancelTask", &[("TaskId", task)])
        .refused("InvalidTaskId.IncorrectTaskStatus", 403);
}
