/* 64 fixed texts that meet every branch of the encoders. */
#ifndef TESTS_FUZZ_FUZZ_TEXTS_H
#define TESTS_FUZZ_FUZZ_TEXTS_H

#define M "\xe2\x96\x81"
static const char *const fuzz_texts[64] = {
    "", " ", "  ", "a", "ab", "abc", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "x", "xx",
    "hello world", " hello  world ", "\t\n\r", "\xff", "\xc3", "\xe2\x96", M, M M, M "a" M, "a" M "b",
    "\xc3\xa4", "e\xcc\x81", "\xef\xac\x81ne \xe2\x91\xa0 \xc3\x9c" "ber", "\xe6\x97\xa5\xe6\x9c\xac",
    "\xf0\x9f\x98\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\xaf", "<unk>", "</s>", "<pad>",
    "<extra_id_0>", " <extra_id_99> ", M "<extra_id_5>", "in<extra_id_5>side",
    "<extra_id_0><extra_id_1>", "-", "--", "---", "----", "...!!!?\?\?---", "1234567890", "{}~^",
    "\xe3\x80\x80", "\xc2\xa0", "\xe2\x80\x8d", "\xef\xbb\xbf" "a", "\xef\xb7\xba", "a\xcc\x80\xcc\x81",
    "A", "THE QUICK BROWN FOX", "the quick brown fox jumps over the lazy dog",
    "sst2 sentence: a brisk , funny ride ", "not_entailment", "True", "x </s> y", "x<pad>y",
    "\x01\x02\x7f", "q\xcc\x87\xcc\xa3", "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xef\xbf\xbd",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z", "\xd9\x84\xd8\xa7", "\xe0\xa4\x95\xe0\xa5\x8d",
    "\xe2\x80\xa6 \xe2\x80\x9cq\xe2\x80\x9d",
};
#undef M

#endif
