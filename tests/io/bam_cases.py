"""BAM files made for tests, and SnapATAC2's rules read by read with pysam: the oracle of test_bam."""

from __future__ import annotations

import gzip
import itertools

import numpy as np
import pytest

from gpuatac.io.fragments.bam import make_fragment_file

pysam = pytest.importorskip("pysam", reason="pysam is the oracle; install gpuatac[dev]")

CONTIGS = {"chr2": 100_000, "chr10": 50_000, "chr1": 100_000, "chrM": 16_000}
NAMES = list(CONTIGS)


# --- the oracle: SnapATAC2's rules, read by read, from the definition -----------------------------


def _five(read, *, clipped):
    """0-based unclipped (or aligned) 5' base."""
    ops = read.cigartuples
    if not read.is_reverse:
        head = sum(n for _, n in itertools.takewhile(lambda o: o[0] in (4, 5), ops))
        return read.reference_start - (head if clipped else 0)
    tail = sum(n for _, n in itertools.takewhile(lambda o: o[0] in (4, 5), reversed(ops)))
    return read.reference_end - 1 + (tail if clipped else 0)


def _quality(read):
    return sum(q for q in (read.query_qualities if read.query_qualities is not None else []) if q >= 15)


def oracle(path, *, tag="CB", umi=None, paired=True, min_mapq=30, left=4, right=-5):
    """Sorted rows (chrom, start, end, barcode, count[, strand])."""
    kept = []
    with pysam.AlignmentFile(path, check_sq=False) as bam:
        sizes = dict(zip(bam.references, bam.lengths, strict=True))
        for read in bam:
            if read.flag & (4 | 8 | 256 | 512 | 1024 | 2048) or (paired and not read.is_proper_pair):
                continue
            barcode = "bulk" if tag is None else (read.get_tag(tag) if read.has_tag(tag) else "")
            if barcode and read.mapping_quality >= min_mapq:
                kept.append((barcode, read.get_tag(umi) if umi and read.has_tag(umi) else None, read))
    groups = {}
    if paired:
        mates = {}
        for barcode, u, read in kept:
            mates.setdefault((barcode, read.query_name), []).append((u, read))
        for (barcode, _), pair in mates.items():
            if (
                len(pair) != 2
                or pair[0][0] != pair[1][0]
                or pair[0][1].reference_id != pair[1][1].reference_id
            ):
                continue
            a, b = sorted((r for _, r in pair), key=lambda r: (_five(r, clipped=True), r.is_reverse))
            kind = (a.is_reverse, b.is_reverse, a.is_read1 if a.is_reverse == b.is_reverse else None)
            key = (
                a.reference_name,
                _five(a, clipped=True),
                _five(b, clipped=True),
                kind,
                barcode,
                pair[0][0],
            )
            groups.setdefault(key, []).append((a, b))
    else:
        for barcode, u, read in kept:
            key = (read.reference_name, _five(read, clipped=True), read.is_reverse, barcode, u)
            groups.setdefault(key, []).append(read)
    rows = []
    for key, members in groups.items():
        if paired:
            ends = [
                min(
                    (
                        -_quality(m[i]),
                        abs(_five(m[i], clipped=True) - _five(m[i], clipped=False)),
                        _five(m[i], clipped=False),
                    )
                    for m in members
                )[2]
                for i in (0, 1)
            ]
            start, end = max(0, min(ends) + left), min(max(ends) + 1 + right, sizes[key[0]])
            if end > start:
                rows.append((key[0], start, end, key[4], len(members)))
        else:
            best = min(members, key=lambda r: (-_quality(r), -r.reference_length, r.reference_start))
            strand = "-" if key[2] else "+"
            rows.append((key[0], best.reference_start, best.reference_end, key[3], len(members), strand))
    return sorted(rows, key=lambda r: (r[0].encode(), *r[1:3], r[3].encode(), r[4:]))


# --- making BAM files -----------------------------------------------------------------------------


def read_of(name, flag, contig, pos, cigar, *, mapq=60, quality=30, tags=(), mate=None):
    read = pysam.AlignedSegment()
    read.query_name, read.flag, read.mapping_quality = name, flag, mapq
    read.reference_id, read.reference_start = NAMES.index(contig), pos
    read.cigarstring = cigar
    n = sum(n for op, n in read.cigartuples if op in (0, 1, 4, 7, 8))
    read.query_sequence = "ACGT" * (n // 4) + "A" * (n % 4)
    qualities = [quality] * n if np.isscalar(quality) else list(quality)
    read.query_qualities = pysam.qualitystring_to_array("".join(chr(33 + q) for q in qualities))
    read.next_reference_id, read.next_reference_start = mate or (NAMES.index(contig), pos)
    for key, value in dict(tags).items():
        read.set_tag(key, value)
    return read


def pair_of(
    name,
    contig,
    start,
    end,
    *,
    barcode="AA",
    length=20,
    flip=False,
    quality=(30, 30),
    clip=(0, 0),
    tags=(),
    extra=0,
    mapq=60,
):
    """A proper FR pair that covers [start, end); ``clip`` bases are soft-clipped at the two 5' ends."""
    tags = {"CB": barcode, **dict(tags)} if barcode else dict(tags)
    one, two = (128, 64) if flip else (64, 128)
    left = f"{clip[0]}S{length - clip[0]}M" if clip[0] else f"{length}M"
    right = f"{length - clip[1]}M{clip[1]}S" if clip[1] else f"{length}M"
    return [
        read_of(
            name,
            3 | 32 | one | extra,
            contig,
            start + clip[0],
            left,
            quality=quality[0],
            tags=tags,
            mapq=mapq,
        ),
        read_of(
            name, 3 | 16 | two | extra, contig, end - length, right, quality=quality[1], tags=tags, mapq=mapq
        ),
    ]


def write_bam(path, reads, *, contigs=CONTIGS, text=None):
    header = text or {"HD": {"VN": "1.6"}, "SQ": [{"SN": n, "LN": s} for n, s in contigs.items()]}
    with pysam.AlignmentFile(path, "wb", header=header) as out:
        for read in reads:
            out.write(read)
    return path


def rows_of(path, *, strand=False):
    rows = [line.split("\t") for line in gzip.open(path, "rt").read().splitlines()]
    return [(r[0], int(r[1]), int(r[2]), r[3], int(r[4]), *(r[5:] if strand else ())) for r in rows]


def converted(folder, reads, **arguments):
    path = write_bam(folder / "in.bam", reads)
    summary = make_fragment_file(path, folder / "out.tsv.gz", force=True, **arguments)
    assert summary.accounted
    return rows_of(folder / "out.tsv.gz", strand=not arguments.get("is_paired", True)), summary


def random_reads(seed, n=400):
    rng = np.random.default_rng(seed)
    reads = []
    for i in range(n):
        contig = NAMES[rng.integers(4)]
        start = int(rng.integers(0, 60)) * 10 + 50
        end = start + int(rng.integers(3, 12)) * 20
        clip = tuple(int(c) for c in rng.choice([0, 0, 0, 2, 7], 2))
        quality = [rng.integers(2, 41, 20).tolist() if rng.random() < 0.5 else 37 for _ in range(2)]
        extra = int(rng.choice([0, 0, 0, 0, 0, 256, 512, 1024, 2048]))
        barcode = str(rng.choice(["AAA", "CCC", "GGG"])) if rng.random() > 0.05 else None
        pair = pair_of(
            f"read{i:04d}",
            contig,
            start,
            end,
            barcode=barcode,
            flip=bool(rng.integers(2)),
            clip=clip,
            quality=quality,
            extra=extra,
            mapq=int(rng.choice([60, 60, 60, 30, 29, 0])),
            tags={"UB": str(rng.choice(["A", "C"]))} if i % 2 else {},
        )
        kind = rng.random()
        if kind < 0.05:
            pair = pair[:1]
        elif kind < 0.1:  # outward and same-strand pairs
            pair[0].flag ^= 16 | 32
        elif kind < 0.15:
            pair[0].flag &= ~2
        elif kind < 0.2 and len(pair) == 2:  # chimeric
            pair[1].reference_id = (pair[1].reference_id + 1) % 4
        elif kind < 0.25:
            pair[1].cigarstring = "2H5M3D10M2N3M2S2H"
        if pair[-1].has_tag("UB") and len(pair) == 2:
            pair[0].set_tag("UB", pair[1].get_tag("UB"))
        reads += pair
    order = rng.permutation(len(reads))
    return [reads[i] for i in order]
