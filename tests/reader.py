#!/usr/bin/env python3
"""A second reader of the store, written from docs/format.md and nothing else.

It copies a disk, or a sealed layer, of a stopped store into a raw file: ledger, chain, headers, words, data.
What must always hold: it changes no byte of the store, believes nothing whose checksum it has not tried, and names
what it refuses. It needs no catalog. Hashes and roots are left alone: there is no BLAKE3 in the standard library.

    reader.py STORE disk DISK-ID OUTPUT
    reader.py STORE layer LAYER-ID OUTPUT
"""
import fcntl, os, struct, sys

BLOCK, CLUSTER, SECTOR, PAGE = 4096, 65536, 512, 4096
FREE, CREATING, LIVE, DELETING, CLOSED = 1, 2, 3, 4, 5
NONE, LONGEST_CHAIN, SIZES = bytes(16), 1024, range(SECTOR, (1 << 48) + 1, SECTOR)

TABLE = list(range(256))
for _ in range(8):
    TABLE = [crc >> 1 ^ 0x82F63B78 * (crc & 1) for crc in TABLE]

class Refused(Exception): "Damage, or what a newer program wrote."

def need(holds, why):
    if not holds:
        raise Refused(why)

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF

def fits(piece, at):  # whether the CRC that lies at the end is that of what lies before it
    return len(piece) == at + 4 and crc32c(piece[:at]) == struct.unpack_from("<I", piece, at)[0]

def record(sector, slot, page):
    """One of a slot's two records; none if it is not what belongs there."""
    magic, version, state, reset, own, sequence, epoch, size = struct.unpack_from("<4sHBBQQQQ", sector)
    if magic != b"RLGR" or not fits(sector, 508):
        return None
    need(version == 1, f"the ledger: a record has version {version}, only 1 is known")
    if own != slot or not FREE <= state <= CLOSED or sequence == 0 or sequence % 2 == page:
        return None
    if state != FREE and (epoch & 0xFFFFFFFF == 0 or size not in SIZES or reset > 1):
        return None
    disk = str(sector[72:104].rstrip(b"\0"), "ascii", "replace") if state != FREE else None
    found = dict(disk=disk, state=state, sequence=sequence, epoch=epoch, size=size)
    return found | dict(base=sector[40:56], head=sector[56:72])

def judged(sectors, slot):
    """The disk a slot names, with the record that counts; the latter is none where the slot is damaged."""
    written = [any(sector) for sector in sectors]
    valid = [found for page, sector in enumerate(sectors) if (found := record(sector, slot, page))]
    newest = max(valid, key=lambda found: found["sequence"], default=None)
    whole = len(valid) == 2 and abs(valid[0]["sequence"] - valid[1]["sequence"]) == 1
    if len(valid) < 2:
        whole = newest and sum(written) == 1 and newest["state"] == CREATING and newest["sequence"] <= 2
    return (newest["disk"] if newest else None), (newest if whole else None)

def find_disk(store, disk):
    raw = open(f"{store}/ledger", "rb").read()
    need(len(raw) >= 2 * PAGE, "the ledger: it is shorter than its header")
    good = [copy for copy in (raw[:PAGE], raw[PAGE:2 * PAGE]) if copy[:8] == b"REINITLG" and fits(copy, 4092)]
    need(good, "the ledger: no valid copy of its header")
    version, features = struct.unpack_from("<II", good[0], 8)
    need((version, features) == (1, 0), f"the ledger: version {version} with features {features:#x} is not known")
    live, half, lost = [], [], 0
    for slot in range((len(raw) - 2 * PAGE) // (2 * PAGE) * 8):
        at = 2 * PAGE + slot // 8 * 2 * PAGE + slot % 8 * SECTOR
        sectors = [raw[at + page * PAGE:at + page * PAGE + SECTOR] for page in (0, 1)]
        if any(map(any, sectors)):
            name, counts = judged(sectors, slot)
            need(counts or name != disk, f"the disk {disk}: slot {slot} of the ledger is damaged")
            lost += not counts and not name
            if name == disk:
                need(counts["state"] != CLOSED, f"the disk {disk} was rebuilt and is closed")
                (live if counts["state"] == LIVE else half).append(counts)
    need(live or not half, f"the disk {disk} is half made or half deleted: the catalog decides")
    need(live, f"the ledger names no disk {disk}, and {lost} of its slots are damaged")
    need(len(live) == 1, f"the disk {disk}: several ledger records speak of it")
    return live[0]

class Layer:
    """A layer's header, believed; its words, each sector tried when it is first read."""

    def __init__(self, store, layer):
        self.id, self.name, self.sectors = layer, f"the layer {layer.hex()}", {}
        paths = [f"{store}/layers/{layer.hex()}/{file}" for file in ("map", "data")]
        need(all(map(os.path.isfile, paths)), f"{self.name}: its files are missing")
        self.map, self.data = (open(path, "rb") for path in paths)
        header = self.newest_header()
        self.size, self.epoch, _, self.entries = struct.unpack_from("<QQQQ", header, 24)
        self.parent, (kind, state, hashed) = header[72:88], header[120:123]
        self.disk = str(header[128:160].rstrip(b"\0"), "ascii", "replace")
        need(header[56:72] == layer, f"{self.name}: its header is that of {header[56:72].hex()}")
        clusters = -(-self.size // CLUSTER)
        sane = self.size in SIZES and self.epoch and kind in (1, 2, 3) and state in (1, 2) and hashed in (0, 1)
        need(sane and self.entries <= clusters, f"{self.name}: its header says what cannot be")
        self.sealed = state == 2
        self.words_end = -(-(2 * PAGE + SECTOR * -(-clusters // 63)) // PAGE) * PAGE
        map_length, length = (os.fstat(file.fileno()).st_size for file in (self.map, self.data))
        right = length == self.size or length > self.size and not self.sealed
        need(right and map_length >= self.words_end, f"{self.name}: its files have the wrong length")
        if self.sealed and hashed:
            self.try_hash_pages(clusters)

    def newest_header(self):
        good, raw = {}, self.map.read(2 * PAGE)
        for copy in (raw[:PAGE], raw[PAGE:]):
            if len(copy) == PAGE and copy[:8] == b"REINITLY":
                version, features, sequence = struct.unpack_from("<IIQ", copy, 8)
                need(version == 1, f"{self.name}: format version {version} is not known, only 1")
                if fits(copy, 4092):
                    need(features == 0, f"{self.name}: required features {features:#x} are not known")
                    good[sequence] = copy
        need(good, f"{self.name}: no valid copy of its header")
        return good[max(good)]

    def try_hash_pages(self, clusters):
        last = -1
        for index in range(-(-self.entries // 102)):
            page = os.pread(self.map.fileno(), PAGE, self.words_end + index * PAGE)
            name, count = f"{self.name}: hash page {index}", min(102, self.entries - index * 102)
            need(fits(page[:4088] + self.id + page[4088:4092], 4104), f"{name}: its checksum is wrong")
            need(struct.unpack_from("<II", page, 4080) == (count, index), f"{name} is another one")
            for cluster, _ in struct.iter_unpack("<Q32s", page[:count * 40]):
                need(last < cluster < clusters, f"{name} is out of order")
                last = cluster

    def word(self, cluster):
        number, place = divmod(cluster, 63)
        self.sectors = self.sectors if number in self.sectors else {number: self.sector(number)}
        return self.sectors[number][place]

    def sector(self, number):
        raw = os.pread(self.map.fileno(), SECTOR, 2 * PAGE + number * SECTOR)
        name, check = f"{self.name}: map sector {number}", crc32c(raw[:504] + self.id + struct.pack("<Q", number))
        need(not any(raw) or struct.unpack_from("<Q", raw, 504)[0] == check, f"{name}: its check word is wrong")
        words = [(word & 0xFFFFFFFF, word >> 32 & 0xFFFF, word >> 48) for word, in struct.iter_unpack("<Q", raw[:504])]
        for epoch, data, zero in words:
            need(not data & zero and (epoch or not data | zero), f"{name}: a word that nobody writes")
            need(epoch <= self.epoch & 0xFFFFFFFF, f"{name}: epoch {epoch} is above the header's {self.epoch}")
        return words

def chain_from(store, layer):
    """A sealed layer and all it stands on, each with the epoch it is read at."""
    chain = []
    while layer != NONE:
        chain.append((found := Layer(store, layer), found.epoch))
        need(found.sealed, f"{found.name} was never sealed")
        need(len(chain) < 2 or found.size <= chain[-2][0].size, f"{found.name} is larger than what stands on it")
        need(len(chain) <= LONGEST_CHAIN, f"{found.name}: the chain above it is too long, or a loop")
        layer = found.parent
    return chain

def disk_chain(store, disk):
    found = find_disk(store, disk)
    if found["head"] == NONE:
        return found["size"], chain_from(store, found["base"])
    head = Layer(store, found["head"])
    if head.sealed:
        return found["size"], chain_from(store, head.id)
    need(head.disk == disk, f"{head.name} is the head of another disk")
    need(head.epoch <= found["epoch"], f"{head.name}: its epoch is above the ledger's: the ledger is an old one")
    need(head.size >= found["size"], f"{head.name} is smaller than its disk")
    return found["size"], [(head, found["epoch"])] + chain_from(store, found["base"])

def block(chain, offset):
    """What a block holds; nothing for zeros."""
    bit = 1 << offset % CLUSTER // BLOCK
    for layer, epoch in chain:
        if offset >= layer.size:
            return b""
        own, data, zero = layer.word(offset // CLUSTER)
        if own == epoch & 0xFFFFFFFF and (data | zero) & bit:
            return os.pread(layer.data.fileno(), min(BLOCK, layer.size - offset), offset) if data & bit else b""
    return b""

def copy(store, what, name, output):
    if os.path.exists(f"{store}/lock"):
        fcntl.flock(held := open(f"{store}/lock", "rb"), fcntl.LOCK_SH | fcntl.LOCK_NB)
    if what == "disk":
        size, chain = disk_chain(store, name)
    else:
        chain = chain_from(store, bytes.fromhex(name))
        size = chain[0][0].size
    with open(output + ".part", "wb") as file:
        file.truncate(size)
        for offset in range(0, size, BLOCK):
            os.pwrite(file.fileno(), block(chain, offset)[:size - offset], offset)
    os.rename(output + ".part", output)

if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[2] not in ("disk", "layer"):
        sys.exit(__doc__)
    try:
        copy(*sys.argv[1:])
    except BlockingIOError:
        sys.exit("refused: a process has the store open")
    except (Refused, OSError) as why:
        sys.exit(f"refused: {why}")
