"""Random work on a disk through libnbd, 16 requests in flight on each connection, and the same on a plain file.

    libnbd_client.py URI TWIN

What must always hold: what is in flight at the same time never overlaps, so that the file tells what the disk must hold;
every read is compared with it. Prints how often it did what.
"""
import json, random, sys
import nbd

URI, TWIN = sys.argv[1:]
CONNECTIONS, IN_FLIGHT, DEEDS, AREA, BLOCK = 4, 16, 1500, 32 << 20, 4096
done, most = {}, 0

def connect():
    handle = nbd.NBD()
    handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    handle.connect_uri(URI)
    assert handle.can_multi_conn() and handle.can_fua() and handle.can_df()
    return handle

class Work:
    """One connection: requests that were sent, each with what is to be done once it is answered."""

    def __init__(self, twin, dice, busy):
        self.handle, self.twin, self.dice, self.busy, self.sent = connect(), twin, dice, busy, {}

    def stretch(self):
        """A place of whole sectors that no request in flight touches."""
        while True:
            length = 512 * self.dice.choice((1, 7, 8, 8, 16, 33, 128))
            start = 512 * self.dice.randrange((AREA - length) // 512)
            if all(start + length <= place or start >= end for place, end in self.busy):
                return start, length

    def submit(self):
        global most
        start, length = self.stretch()
        deed = self.dice.choices(("pwrite", "pread", "zero", "trim", "flush", "block_status"), (8, 6, 2, 2, 1, 1))[0]
        if deed == "trim":  # of whole blocks, as only those are promised to read as zeros
            start, length = start // BLOCK * BLOCK, max(length // BLOCK, 1) * BLOCK
            if any(start < end and start + length > place for place, end in self.busy):
                return
        span, after = (start, start + length), lambda: None
        twin, handle = self.twin, self.handle
        if deed == "pwrite":
            data = self.dice.randbytes(length)
            flags = self.dice.choice((0, 0, 0, nbd.CMD_FLAG_FUA))
            cookie = handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), start, flags=flags)
            twin[start:start + length] = data
        elif deed == "pread":
            buffer = nbd.Buffer(length)
            wanted = bytes(twin[start:start + length])
            cookie = handle.aio_pread(buffer, start)
            def after():
                assert bytes(buffer.to_bytearray()) == wanted, f"wrong bytes at {start}"
        elif deed in ("zero", "trim"):
            flags = nbd.CMD_FLAG_NO_HOLE if deed == "zero" and self.dice.random() < 0.5 else 0
            cookie = getattr(handle, "aio_" + deed)(length, start, flags=flags)
            twin[start:start + length] = bytes(length)
        elif deed == "flush":
            span, cookie = (0, 0), handle.aio_flush()
        else:
            told = []
            zeros = not any(twin[start:start + length])
            cookie = handle.aio_block_status(
                length, start, lambda context, offset, entries, error: told.extend(entries) or 0)
            def after():
                assert sum(told[::2]) > 0, "no extent"
                # A stretch that is said to be zeros must be; what is written to it meanwhile is elsewhere.
                assert zeros or sum(told[::2]) < length or not all(kind & nbd.STATE_ZERO for kind in told[1::2])
        self.sent[cookie] = (deed, span, after)
        self.busy.append(span)
        most = max(most, len(self.sent))

    def collect(self):
        self.handle.poll(0)
        for cookie in list(self.sent):
            if self.handle.aio_command_completed(cookie):
                deed, span, after = self.sent.pop(cookie)
                self.busy.remove(span)
                after()
                done[deed] = done.get(deed, 0) + 1

def main():
    twin, dice, busy = bytearray(AREA), random.Random(11), []
    works = [Work(twin, dice, busy) for _ in range(CONNECTIONS)]
    while sum(done.values()) < DEEDS:
        for work in works:
            while len(work.sent) < IN_FLIGHT:
                work.submit()
            work.collect()
    while any(work.sent for work in works):
        for work in works:
            work.collect()
    # One connection's flush is everybody's: that is what multi-conn promises.
    works[0].handle.flush()
    assert bytes(works[-1].handle.pread(1 << 20, 0)) == bytes(twin[:1 << 20])
    for work in works:
        work.handle.shutdown()
    with open(TWIN, "r+b") as file:
        file.write(twin)
    print(json.dumps(done | {"most_in_flight": most}))

main()
