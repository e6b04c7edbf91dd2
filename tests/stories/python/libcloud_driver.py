"""A lab kept with the verbs of libcloud's ECS driver; what it has no verb for goes through its connection.

libcloud_driver.py ADDRESS KEY SECRET IMAGE NBD, where NBD is the address of a disk with {} for its id.
"""

import subprocess
import sys
import time

from libcloud.compute.types import NodeState, StorageVolumeState, VolumeSnapshotState

from conversation import Refused
from libcloud_client import ask, driver_of

NAME = "a b+c*~'(数据盘)<&>"
PATTERN = "0x21 0 1M"


def until(look, state):
    for _ in range(600):
        found = look()
        if [one.state for one in found] == [state]:
            return found[0]
        time.sleep(0.05)
    raise SystemExit(f"{found} never became {state}")


class Lab:
    def __init__(self, driver, nbd):
        self.driver = driver
        self.nbd = nbd

    def io(self, volume, *commands):
        line = ["qemu-io", "-f", "raw"]
        for command in commands:
            line += ["-c", command]
        done = subprocess.run([*line, self.nbd.format(volume.id)], capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == 0 and "failed" not in said, said

    def volume(self, volume, state):
        return until(lambda: self.driver.list_volumes(ex_volume_ids=[volume.id]), state)

    def create(self, image):
        sizes = {size.id: size for size in self.driver.list_sizes()}
        node = self.driver.create_node(
            NAME,
            sizes["ecs.g6.large"],
            image,
            ex_security_group_id="sg-1",
            ex_system_disk={"category": "cloud_auto"},
            ex_data_disks=[{"size": 1, "category": "cloud_auto", "delete_with_instance": True}],
        )
        # libcloud looked before it waited: only a new look shows what came of it.
        (node,) = self.driver.list_nodes(ex_node_ids=[node.id])
        assert (node.state, node.name) == (NodeState.RUNNING, NAME), node
        return node

    def disks(self, node):
        volumes = self.driver.list_volumes(ex_filters={"InstanceId": node.id})
        by_type = {volume.extra["type"]: volume for volume in volumes}
        assert sorted(by_type) == ["data", "system"], volumes
        return by_type["system"], by_type["data"]

    def reset(self, node, volume):
        """Refused while the node runs, done when it is stopped."""
        try:
            ask(self.driver, "ReInitDisk", {"DiskId": volume.id})
            raise SystemExit("a disk of a running node was reset")
        except Refused as refused:
            assert refused.told["code"] == "IncorrectInstanceStatus", refused.told
            assert refused.told["status"] == 403, refused.told
        assert self.driver.stop_node(node)
        ask(self.driver, "ReInitDisk", {"DiskId": volume.id})
        self.volume(volume, StorageVolumeState.INUSE)
        assert self.driver.start_node(node)

    def snapshot(self, volume):
        made = self.driver.create_volume_snapshot(volume, name="kept")
        look = lambda: self.driver.list_volume_snapshots(volume, ex_snapshot_ids=[made.id])
        return until(look, VolumeSnapshotState.AVAILABLE)

    def restore(self, node, snapshot):
        zone = self.driver.ex_list_zones()[0]
        assert "cloud_auto" in zone.available_disk_categories, zone
        volume = self.driver.create_volume(
            1, "restored", snapshot=snapshot, ex_zone_id=zone.id, ex_disk_category="cloud_auto"
        )
        self.volume(volume, StorageVolumeState.AVAILABLE)
        assert self.driver.attach_volume(node, volume)
        return self.volume(volume, StorageVolumeState.INUSE)

    def part(self, volume):
        assert self.driver.detach_volume(volume)
        volume = self.volume(volume, StorageVolumeState.AVAILABLE)
        assert self.driver.destroy_volume(volume)
        assert self.driver.list_volumes(ex_volume_ids=[volume.id]) == []

    def images(self, snapshot):
        """Images that libcloud makes must be there when it looks at once, which it does once."""
        made = self.driver.create_image(None, "golden", ex_snapshot_id=snapshot.id)
        copy = self.driver.copy_image("cn-hangzhou", made, "copy", description="of golden")
        assert [one.name for one in (made, copy)] == ["golden", "copy"]
        assert {made.id, copy.id} <= {image.id for image in self.driver.list_images()}
        for image in (copy, made):
            assert self.driver.delete_image(image)


def main(address, key, secret, image, nbd):
    driver = driver_of(address, key, secret)
    assert [place.id for place in driver.list_locations()] == ["cn-hangzhou"]
    lab = Lab(driver, nbd)
    node = lab.create(driver.get_image(image))
    system, data = lab.disks(node)
    lab.io(data, f"write -P {PATTERN}", "flush")
    snapshot = lab.snapshot(data)
    lab.reset(node, data)
    lab.io(data, "read -P 0 0 2M")
    restored = lab.restore(node, snapshot)
    lab.io(restored, f"read -P {PATTERN}", "write -P 0xff 0 2M", "flush")
    lab.reset(node, restored)
    lab.io(restored, f"read -P {PATTERN}", "read -P 0 1M 1M")
    lab.part(restored)
    assert driver.destroy_volume_snapshot(snapshot)
    kept = lab.snapshot(system)
    lab.images(kept)
    assert driver.reboot_node(node)
    assert driver.destroy_node(node)
    assert driver.list_nodes(ex_node_ids=[node.id]) == []
    assert driver.list_volumes(ex_volume_ids=[data.id]) == [], "it was to go with its instance"


main(*sys.argv[1:])
