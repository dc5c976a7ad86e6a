#!/usr/bin/env python3
"""Data sets prepared by spt against those prepared by TFDS itself from the same files.

    python3 -m venv V && V/bin/pip install tensorflow_datasets tensorflow-cpu
    python3 tests/support/mini_archives.py MIRROR
    SPT_DATA_NO_VERIFY=1 SPT_DATA_MIRROR=MIRROR build/release/spt data prepare glue super_glue squad mrqa \\
        definite_pronoun_resolution --out OURS
    V/bin/python tools/crosscheck/tfds_prepare.py MIRROR OURS THEIRS

Runs TFDS's own builders with a download manager that takes files from MIRROR, then compares for every
data set: features.json and class names byte for byte; splits, numbers of bytes, shard lengths and file
names; every record of every shard, in order, as tf.train.Example; and reads OURS with
tfds.builder_from_directory. Prints one line per data set, exits 1 on any difference.
"""
import contextlib
import json
import os
import pathlib
import sys
import urllib.parse
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

mirror, ours, theirs = map(pathlib.Path, sys.argv[1:4])
SETS = {
    "glue": ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "mnli_matched", "mnli_mismatched", "qnli", "rte", "wnli", "ax"],
    "super_glue": ["boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc", "wsc.fixed", "axb", "axg"],
    "squad": ["v1.1", "v2.0"],
    "mrqa": ["squad", "news_qa", "trivia_qa", "search_qa", "hotpot_qa", "natural_questions", "bio_asq", "drop",
             "duo_rc", "race", "relation_extraction", "textbook_qa"],
    "definite_pronoun_resolution": [""],
}
NAMED = {"https://bit.ly/2BOtOJ7": "bit.ly/tsvsWithoutLabels_AX.tsv",
         "http://participants-area.bioasq.org/MRQA2019/": "participants-area.bioasq.org/MRQA2019/BioASQ.jsonl.gz"}


def local(url):
    if url in NAMED:
        return mirror / NAMED[url]
    u = urllib.parse.urlsplit(url)
    path = pathlib.PurePosixPath(u.netloc + u.path)
    name = path.name.replace("data%2F", "")
    return mirror / path.parent / name


class Downloads:
    """What builders ask of a download manager."""
    downloaded_size = 0

    def _map(self, f, x):
        return {k: self._map(f, v) for k, v in x.items()} if isinstance(x, dict) else f(x)

    def download(self, urls):
        return self._map(lambda u: str(local(u)), urls)

    def download_and_extract(self, urls):
        return self._map(self._extract, urls)

    def _extract(self, url):
        path = local(url)
        if path.suffix == ".gz":
            import gzip
            out = theirs / "unpacked" / path.relative_to(mirror).with_suffix("")
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(gzip.decompress(path.read_bytes()))
            return str(out)
        if path.suffix != ".zip":
            return str(path)
        out = theirs / "unpacked" / path.relative_to(mirror)
        with zipfile.ZipFile(path) as z:
            z.extractall(out)
        return str(out)


def records(path):
    for raw in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        e = tf.train.Example.FromString(raw)
        yield {k: (v.WhichOneof("kind"), list(getattr(v, v.WhichOneof("kind")).value) if v.WhichOneof("kind") else [])
               for k, v in e.features.feature.items()}, len(raw)


def splits(d):
    info = json.loads((d / "dataset_info.json").read_text())
    return {s["name"]: (s["shardLengths"], s["numBytes"]) for s in info["splits"]}


def compare(name, a, b):
    bad = []
    for f in sorted(p.name for p in b.iterdir() if p.name == "features.json" or p.name.endswith(".labels.txt")):
        if not (a / f).exists() or (a / f).read_bytes() != (b / f).read_bytes():
            bad.append(f"{f} differs")
    if splits(a) != splits(b):
        bad.append(f"splits {splits(a)} != {splits(b)}")
    shards = sorted(p.name for p in b.glob("*.tfrecord*"))
    if shards != sorted(p.name for p in a.glob("*.tfrecord*")):
        return bad + [f"other shards than {shards}"], 0
    n = 0
    for s in shards:
        x, y = list(records(a / s)), list(records(b / s))
        n += len(x)
        if [r for r, _ in x] != [r for r, _ in y]:
            k = next((i for i, (p, q) in enumerate(zip(x, y)) if p[0] != q[0]), min(len(x), len(y)))
            bad.append(f"{s}: record {k}: {x[k] if k < len(x) else None} != {y[k] if k < len(y) else None}"[:2000])
    builder = tfds.builder_from_directory(str(a))
    read = 0
    for split in builder.info.splits:
        for _ in builder.as_dataset(split=split).as_numpy_iterator():
            read += 1
    if read != n:
        bad.append(f"tfds reads {read} of {n} examples")
    return bad, n


def main():
    failed = 0
    tfds.disable_progress_bar()
    for group, configs in SETS.items():
        for config in configs:
            name = f"{group}/{config}" if config else group
            builder = tfds.builder(name, data_dir=str(theirs))
            type(builder)._make_download_manager = lambda self, **k: Downloads()
            with contextlib.redirect_stdout(sys.stderr):
                builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
                    try_download_gcs=False, compute_stats="skip"))
            d = pathlib.Path(builder.data_dir)
            bad, n = compare(name, ours / d.relative_to(theirs), d)
            print(f"{'not ok' if bad else 'ok'} {name} {d.name}: {n} records", *bad, sep="\n    ", flush=True)
            failed += bool(bad)
    print(f"{failed} differ" if failed else "all agree")
    return failed > 0


sys.exit(main())
