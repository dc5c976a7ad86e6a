#!/usr/bin/env python3
"""Miniature data sets in the layout of their publishers: python3 mini_archives.py DIR [ROWS]

Writes DIR/<host>/<path> for every file that `spt data info` names, as a mirror has them: GLUE and
SuperGLUE archives, MRPC's three files, SQuAD, MRQA, definite pronouns. Our own sentences; the oddities are those of the
real files: quotes that are no quotes, rows that lack columns, blank lines, a byte order mark, WSC spans
that are not in their text, answers that stand twice. The same bytes every time.
"""
import gzip
import io
import json
import pathlib
import random
import sys
import zipfile

NAMES = ["Ada", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana"]
VERBS = ["saw", "met", "called", "painted", "forgot", "followed"]
THINGS = ["the ferry", "a red kite", "an \"old\" map", "the caf\u00e9", "two tins of paint", "rain in \u6771\u4eac",
          "it's late", "a well - worn coat , again", "nothing\u2028at all", "50% of it"]


class Maker:
    def __init__(self, root, rows):
        self.root, self.rows, self.rng = pathlib.Path(root), rows, random.Random(7)

    def sentence(self):
        r = self.rng
        return f"{r.choice(NAMES)} {r.choice(VERBS)} {r.choice(THINGS)} {r.randrange(1000)} ."

    def n(self, split):
        return self.rows if split == "train" else max(3, self.rows // 4)

    def put(self, path, data):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    def zip(self, path, members):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
            for name, text in members.items():
                z.writestr(zipfile.ZipInfo(name, (2019, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
        self.put(path, out.getvalue())

    # --- GLUE ---

    def table(self, header, row, n, odd=()):
        lines = ["\t".join(header)] if header else []
        for i in range(n):
            lines.append("\t".join(row(i)))
            for at, text in odd:
                if at == i:
                    lines.append(text)
        return "\n".join(lines) + "\n"

    def glue(self):
        base = "dl.fbaipublicfiles.com/glue/data/"
        s, r = self.sentence, self.rng
        splits = [("train", "train"), ("dev", "dev"), ("test", "test")]

        def three(zip_name, folder, make):
            members = {f"{folder}/": ""}
            members.update({f"{folder}/{f}.tsv": make(k, self.n(k)) for k, f in splits})
            self.zip(base + zip_name, members)

        three("CoLA.zip", "CoLA", lambda k, n: self.table(["index", "sentence"], lambda i: [str(i), s()], n)
              if k == "test" else self.table(None, lambda i: ["gj04", str(i % 2), "*" if i % 3 else "", s()], n))
        three("SST-2.zip", "SST-2", lambda k, n: self.table(["index", "sentence"], lambda i: [str(i), s()], n)
              if k == "test" else self.table(["sentence", "label"], lambda i: [s() + " ", str(i % 2)], n))
        three("QQP.zip", "QQP", lambda k, n: self.table(["id", "question1", "question2"],
                                                        lambda i: [str(i), s(), s()], n)
              if k == "test" else self.table(["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
                                             lambda i: [str(i), "1", "2", s(), s(), str(i % 2)], n,
                                             [(1, "77\t1\t2\tbroken row"), (2, ""), (3, "78\t1\t2\ta\tb\t"),
                                              (4, "79\t1\t2\tq one\tq two\t1\textra\tcolumns")]))
        three("STS-B.zip", "STS-B", lambda k, n: self.table(
            ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2"] +
            ([] if k == "test" else ["score"]),
            lambda i: [str(i), "g", "f", "2012", "0", "none", "none", s(), s()] +
            ([] if k == "test" else [f"{r.randrange(501) / 100:.3f}"]), n))
        mnli = {}
        for k in ("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched"):
            test = k.startswith("test")
            extra = 1 if k == "train" else 5
            head = ["index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse",
                    "sentence1_parse", "sentence2_parse", "sentence1", "sentence2"]
            head += [] if test else [f"label{j + 1}" for j in range(extra)] + ["gold_label"]
            classes = ["entailment", "neutral", "contradiction"]
            mnli[f"MNLI/{k}.tsv"] = self.table(
                head, lambda i: [str(i), "p", "q", "fiction", "( a )", "( b )", "(A)", "(B)", s(), s()] +
                ([] if test else [classes[i % 3]] * extra + [classes[i % 3]]), self.n(k.split("_")[0]))
        self.zip(base + "MNLI.zip", mnli)
        two = ["entailment", "not_entailment"]
        three("QNLIv2.zip", "QNLI", lambda k, n: self.table(
            ["index", "question", "sentence"] + ([] if k == "test" else ["label"]),
            lambda i: [str(i), s() + "?", s()] + ([] if k == "test" else [two[i % 2]]), n))
        three("RTE.zip", "RTE", lambda k, n: self.table(
            ["index", "sentence1", "sentence2"] + ([] if k == "test" else ["label"]),
            lambda i: [str(i), s(), s()] + ([] if k == "test" else [two[i % 2]]), n))
        three("WNLI.zip", "WNLI", lambda k, n: self.table(
            ["index", "sentence1", "sentence2"] + ([] if k == "test" else ["label"]),
            lambda i: [str(i), s(), s()] + ([] if k == "test" else [str(i % 2)]), n).replace("\n", "\r\n"))
        self.put("bit.ly/tsvsWithoutLabels_AX.tsv", self.table(["index", "sentence1", "sentence2"],
                                                               lambda i: [str(i), s(), s()], self.rows))
        head = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
        corpus = "dl.fbaipublicfiles.com/senteval/senteval_data/"
        self.put(corpus + "msr_paraphrase_train.txt", b"\xef\xbb\xbf" + self.table(
            head, lambda i: [str(i % 2), str(1000 + i), str(2000 + i), s(), s()], self.rows).replace("\n", "\r\n").encode())
        self.put(corpus + "msr_paraphrase_test.txt", b"\xef\xbb\xbf" + self.table(
            head, lambda i: [str(i % 2), str(5000 + i), str(6000 + i), s(), s()], self.n("test")).encode())
        self.put("firebasestorage.googleapis.com/v0/b/mtl-sentence-representations.appspot.com/o/mrpc_dev_ids.tsv",
                 "".join(f"{1000 + i}\t{2000 + i}\n" for i in range(0, self.rows, 5)))

    # --- SuperGLUE ---

    def super_glue(self):
        base = "dl.fbaipublicfiles.com/glue/superglue/data/v2/"
        s, r = self.sentence, self.rng

        def lines(rows):
            return "".join(json.dumps(x) + "\n" for x in rows)

        def three(folder, row):
            out = {}
            for k, f in (("train", "train"), ("dev", "val"), ("test", "test")):
                rows = [row(i, k == "test") for i in range(self.n(k))]
                out[f"{folder}/{f}.jsonl"] = lines(rows)
            self.zip(base + folder + ".zip", out)

        def labelled(row, test, label):
            return row if test else {**row, "label": label}
        three("BoolQ", lambda i, t: labelled({"question": s(), "passage": s() + " " + s(), "idx": i}, t, i % 2 == 0))
        three("CB", lambda i, t: labelled({"premise": s(), "hypothesis": s(), "idx": i}, t,
                                          ["entailment", "contradiction", "neutral"][i % 3]))
        three("COPA", lambda i, t: labelled({"premise": s(), "choice1": s(), "choice2": s(),
                                             "question": ["cause", "effect"][i % 2], "idx": i}, t, i % 2))
        three("RTE", lambda i, t: labelled({"premise": s(), "hypothesis": s(), "idx": i}, t,
                                           ["entailment", "not_entailment"][i % 2]))
        three("WiC", lambda i, t: labelled({"word": "map", "sentence1": s(), "sentence2": s(), "idx": i, "start1": i,
                                            "start2": i + 1, "end1": i + 3, "end2": i + 4, "version": 1.1}, t, i % 2 == 1))

        def wsc(i, t):
            a, b = r.sample(NAMES, 2)
            text = f"{a} gave {b} the key because he had lost {i} others ."
            span = a.lower() + "." if i % 4 == 1 else a
            return labelled({"text": text, "target": {"span1_index": 0, "span1_text": span, "span2_index": 6,
                                                      "span2_text": "He" if i % 4 == 2 else "he"}, "idx": i}, t, i % 2 == 0)
        three("WSC", wsc)

        def multirc(i, t):
            return {"idx": i, "version": 1.1, "passage": {"text": s() + "<br>" + s(), "questions": [
                {"idx": 2 * i + q, "question": s(), "answers": [
                    labelled({"idx": 10 * i + 3 * q + a, "text": s()}, t, (i + a) % 2) for a in range(2 + q)]}
                for q in range(2)]}}
        three("MultiRC", multirc)

        def record(i, t):
            text = f"{NAMES[i % 8]} met {NAMES[(i + 3) % 8]} in \u6771\u4eac .\n@highlight\n{s()}"
            at = text.index(NAMES[(i + 3) % 8])
            spans = [{"start": 0, "end": len(NAMES[i % 8]) - 1}, {"start": at, "end": at + len(NAMES[(i + 3) % 8]) - 1},
                     {"start": 0, "end": len(NAMES[i % 8]) - 1}]
            qas = []
            for q in range(2):
                qa = {"idx": 2 * i + q, "query": "@placeholder " + s()}
                if not t:
                    qa["answers"] = [{"start": 0, "end": 1, "text": NAMES[(i + 3 * q) % 8]}] * (1 + q)
                qas.append(qa)
            return {"source": "mini", "idx": i, "passage": {"text": text, "entities": spans}, "qas": qas}
        three("ReCoRD", record)
        two = ["entailment", "not_entailment"]
        self.zip(base + "AX-b.zip", {"AX-b/AX-b.jsonl": lines(
            {"sentence1": s(), "sentence2": s(), "idx": i, "label": two[i % 2], "logic": "Negation"} for i in range(self.rows))})
        self.zip(base + "AX-g.zip", {"AX-g/AX-g.jsonl": lines(
            {"premise": s(), "hypothesis": s(), "idx": i, "label": two[i % 2], "pair_id": i // 2} for i in range(self.rows))})

    # --- questions ---

    def squad(self):
        base = "rajpurkar.github.io/SQuAD-explorer/dataset/"
        s = self.sentence
        for version in ("1.1", "2.0"):
            for k in ("train", "dev"):
                articles, q = [], 0
                while q < self.n(k):
                    paragraphs = []
                    for _ in range(2):
                        context = s() + " " + s()
                        qas = []
                        for _ in range(2):
                            word = context.split()[0]
                            qa = {"id": f"{version}-{k}-{q:06x}", "question": s() + "?",
                                  "answers": [{"text": word, "answer_start": 0}] * (1 if k == "train" else 3)}
                            if version == "2.0":
                                qa["is_impossible"] = q % 3 == 0
                                if q % 3 == 0:
                                    qa["plausible_answers"], qa["answers"] = qa["answers"], []
                            qas.append(qa)
                            q += 1
                        paragraphs.append({"context": context, "qas": qas})
                    articles.append({"title": f"Title {{[\"{len(articles)}\"]}} \\", "paragraphs": paragraphs})
                self.put(base + f"{k}-v{version}.json", json.dumps({"data": articles, "version": version}))

    def mrqa(self):
        s = self.sentence

        def part(name, split, n):
            out = [json.dumps({"header": {"dataset": name, "split": split}})]
            for i in range(n):
                context = f"\u2003{s()} {s()}\n"
                words, at = [], 0
                for w in context.split():
                    words.append([w, context.index(w, at)])
                    at = words[-1][1] + len(w)
                qas = []
                for q in range(1 + i % 2):
                    question = f" {s()}? "
                    spans = [[0, 3], [10, 12]][:1 + i % 2]
                    qas.append({"qid": f"{name}{split}{i}-{q}", "question": question,
                                "question_tokens": [[w, j] for j, w in enumerate(question.split())],
                                "detected_answers": [{"text": " " + words[0][0] + "\u00a0", "char_spans": spans,
                                                      "token_spans": spans}] * (i % 3),
                                "answers": [words[0][0], "  kept as it is "][:1 + i % 2]})
                out.append(json.dumps({"id": str(i), "context": context, "context_tokens": words, "qas": qas}))
            return gzip.compress(("\n".join(out) + "\n").encode(), 6, mtime=0)
        base = "s3.us-east-2.amazonaws.com/mrqa/release/v2/"
        for f in ("SQuAD", "NewsQA", "TriviaQA-web", "SearchQA", "HotpotQA", "NaturalQuestionsShort"):
            self.put(base + f"train/{f}.jsonl.gz", part(f, "train", self.rows))
            self.put(base + f"dev/{f}.jsonl.gz", part(f, "dev", self.n("dev")))
        for f in ("DROP", "DuoRC.ParaphraseRC", "RACE", "RelationExtraction", "TextbookQA"):
            self.put(base + f"dev/{f}.jsonl.gz", part(f, "dev", self.n("dev")))
        self.put("participants-area.bioasq.org/MRQA2019/BioASQ.jsonl.gz", part("BioASQ", "dev", self.n("dev")))


    def pronouns(self):
        for k in ("train", "test"):
            out = []
            for i in range(self.n(k)):
                a, b = self.rng.sample(NAMES, 2)
                out.append(f"{a} {self.rng.choice(VERBS)} {b} because she was {i}.\nshe \n {a},{b} \n{(a, b)[i % 2]}\n\n")
            self.put(f"s3.amazonaws.com/datasets.huggingface.co/definite_pronoun_resolution/{k}.c.txt", "".join(out))


def main():
    m = Maker(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40)
    for group in (m.glue, m.super_glue, m.squad, m.mrqa, m.pronouns):
        m.rng.seed(7)
        group()


if __name__ == "__main__":
    main()
