/* Concepts for `spt help TOPIC` and the manual. What one command does stands in its own help. */
#include <string.h>

#include <spt/spt.h>

static const spt_topic topics[] = {
    {"prompts", "what a soft prompt is, which files hold one",
     "A soft prompt is a matrix of P rows in front of the embedded input of a frozen T5. Training\n"
     "changes these rows and nothing else, so one base model serves any number of prompts.\n\n"
     "--prompt takes:\n\n"
     "  RUN                      a run directory: the best prompt by --eval\n"
     "  x.safetensors            ours, with its use: templates, labels, lengths, vocabulary, base\n"
     "  x.npy, or no extension   the reference's, rows only\n"
     "  checkpoint_N/            a T5X checkpoint with a prompt in it, or numpy_checkpoints/\n"
     "  adapter/                 a PEFT prompt-tuning adapter\n"
     "  org/name[@revision]      an adapter on the Hugging Face hub (`spt help models`)\n\n"
     "`spt convert IN OUT` turns one kind into another and says what OUT cannot keep. `spt\n"
     "inspect` shows a prompt, `spt neighbors` the pieces of the vocabulary that are near its "
     "rows.\n\n"
     "The use travels with the prompt: eval, infer and score apply it. An option that says\n"
     "otherwise is followed, with a warning; another base model or vocabulary is a warning, too."},
    {"init", "how a prompt starts",
     "--init decides what the rows are before the first step:\n\n"
     "  labels    the embedded pieces of the labels, the rest drawn from the vocabulary\n"
     "  vocab     rows of the embedding table, drawn from its first --init-population rows\n"
     "  uniform   numbers from [0, --init-scale)\n"
     "  text      the pieces of --init-text\n"
     "  file      the rows of --init-file, a prompt of any kind\n"
     "  auto      labels when there are any, else vocab\n\n"
     "--length says how many rows. Small models want few (20), large ones 100. --seed makes the\n"
     "drawing repeatable; a seed that was drawn is printed and written to RUN/config.gin. Given\n"
     "the same seed a gin run starts from the very rows of the reference.\n\n"
     "  spt init --model MODEL --init vocab --length 20 --seed 1 --out p.npy"},
    {"checkpoints", "what a run writes and how it continues",
     "A run directory holds prompt-N.safetensors, the prompt after step N; best.json, which names\n"
     "the best one; state-N/, all that is needed to continue; config.gin, the settings; logs and\n"
     "TensorBoard event files.\n\n"
     "A state appears whole or not at all, with checksums: a run that is killed, or loses power,\n"
     "continues with --resume to the same bits. SIGINT and SIGTERM save first (exit code 75).\n"
     "--save-every sets how often, --keep how many are kept besides the best one.\n\n"
     "The reference's checkpoints (checkpoint_N/, msgpack and zarr) are read wherever a model or\n"
     "prompt is, and written by gin runs and with --save-full. `spt extract` takes one variable\n"
     "out, `spt inspect` lists them."},
    {"gin", "the reference's configuration files and flags",
     "Given one of the reference's flags (--gin_file, --gin.NAME=VALUE, --gin_search_paths,\n"
     "--tfds_data_dir, ...) train, eval and infer behave as t5x.train, t5x.eval and t5x.infer: "
     "the\n"
     "same files, names and numbers.\n\n"
     "  spt train --gin_file=prompt_tuning/configs/models/t5_1_1_base_prompt.gin ... \\\n"
     "      --gin.MODEL_DIR=\"'run'\" --gin.TRAIN_STEPS=1_150_000 --tfds_data_dir=tfds\n\n"
     "Strings need gin's quotes inside the shell's. Files are looked for in the current "
     "directory,\n"
     "in --gin_search_paths, in $SPT_CONFIGS and in what comes with the program (`spt find-module\n"
     "prompt_tuning` says where). Nothing that a gin file names can run code. A missing value is\n"
     "named with its meaning; a binding that has no effect is named once.\n\n"
     "Options of ours are bindings, too (spt.lr = 0.1): the config.gin of any run gives it back.\n\n"
     "  spt train --gin_file run/config.gin --out again\n\n"
     "docs/reference/gin.md has the table of what acts."},
    {"tasks", "the reference's tasks, mixtures, and tasks of your own",
     "A task names a data set, how its rows become texts, and how answers are scored. The tasks "
     "and\n"
     "mixtures of the reference (GLUE, SuperGLUE, SQuAD, MRQA, ...) have the reference's names; a\n"
     "gin run takes one by MIXTURE_OR_TASK_NAME, `spt tasks show` prints its examples as text and\n"
     "ids, `spt cache` writes them as a SeqIO cache.\n\n"
     "A gin file defines a task of its own from tables, without code:\n\n"
     "  reviews/spt.Task:\n"
     "    train = 'train.tsv'\n"
     "    input = 'review: {text}'\n"
     "    target = '{label}'\n"
     "    labels = ['bad', 'good']\n\n"
     "A plug-in (--plugin) brings preprocessors, metrics and tasks as compiled code."},
    {"models", "which models can be named, and where they are looked for",
     "--model takes a directory: a T5X checkpoint (checkpoint_N/), or a Hugging Face model\n"
     "(config.json with model.safetensors, shards and an index, or pytorch_model.bin). T5 1.0, T5\n"
     "1.1, its LM-adapted form, Flan-T5, mT5, umT5 and ByT5 are models that spt knows. The\n"
     "vocabulary lies beside the weights (spiece.model, tokenizer.json), or is named by "
     "--vocab.\n\n"
     "--model, --vocab and --prompt also take a name on the Hugging Face hub:\n\n"
     "  google/t5-small-lm-adapt             its branch main\n"
     "  google/t5-small-lm-adapt@v1.0        a branch, a tag, or a commit of 40 hex digits\n\n"
     "A path that exists always wins. A name is looked for in the hub's cache, which is shared "
     "with\n"
     "transformers and huggingface_hub: files that they put there are used where they are. What "
     "is\n"
     "missing is fetched there, only the files that are needed, checked against their checksums; "
     "an\n"
     "interrupted fetch continues where it was. What is in the cache is not asked for again: `spt\n"
     "models get NAME` looks for a newer commit.\n\n"
     "  HF_HUB_CACHE, HF_HOME      where the cache is (default ~/.cache/huggingface/hub)\n"
     "  HF_HUB_OFFLINE=1           only the cache, no network\n"
     "  HF_TOKEN                   for gated and private models; else the file of `hf auth login`\n"
     "  HF_ENDPOINT                another server than https://huggingface.co\n\n"
     "`spt models` lists what is in the cache and says which of it spt can use."},
    {"data", "tables, prepared data sets, labels",
     "Examples come from a table: TSV, CSV, JSON Lines, gzip'd or not, with or without a header\n"
     "row. Without --input and --target the text and the label are found by the names of the\n"
     "columns (text, sentence, ...; label, target), or are columns 1 and 2. Templates name "
     "columns:\n\n"
     "  --input 'sst2 sentence: {sentence}' --target '{label}'\n\n"
     "Labels are the distinct targets when they are few; --labels a,b,c or --labels @FILE say "
     "which\n"
     "and in which order. With labels answers are ranked, without they are decoded.\n\n"
     "`spt check` reads all of it and says what it found before anything is trained. Gin runs "
     "read\n"
     "data sets that TFDS prepared, or the unpacked archives of GLUE and SuperGLUE\n"
     "(--tfds_data_dir, TFDS_DATA_DIR); what is missing there of GLUE, SuperGLUE, SQuAD and MRQA\n"
     "is fetched and prepared, as `spt data prepare NAME` does (SPT_OFFLINE=1: not). `spt data\n"
     "convert` turns tables and predictions into one another.\n\n"
     "docs/reference/data-files.md and data-sets.md have every rule."},
    {"buckets", "files in gs:// buckets and on the web",
     "Any path of a command may be gs://bucket/path, to read and to write: models, data, prompts,\n"
     "run directories, and in gin MODEL_DIR, TFDS_DATA_DIR, checkpoints, gin files. https://host/file\n"
     "is read. A run in a bucket has the files of a run on disk, continues after kill -9, and\n"
     "keeps a second trainer out.\n\n"
     "  export GOOGLE_APPLICATION_CREDENTIALS=key.json\n"
     "  spt train --model gs://b/t5 --train gs://b/train.tsv --out gs://b/runs/first\n\n"
     "Who asks: nobody for an emulator (STORAGE_EMULATOR_HOST); else a key file, what `gcloud auth\n"
     "application-default login` left, or the machine's own account; else nobody, which is enough\n"
     "for public buckets. Only what is needed is fetched, checked, and kept in --cache-dir (at most\n"
     "--cache-size of it). Requests that fail are tried again. `spt help environment` lists the\n"
     "variables, docs/reference/buckets.md has the rules and what each option takes."},
    {"machines", "several processes and machines",
     "Built with `make MPI=1`, spt is one job of N processes under mpirun or srun. Each computes a\n"
     "part of every batch; the bytes that come out are those of one process. Where a model does not\n"
     "fit one machine --num-partitions K (gin's num_partitions) has K neighbours hold it together.\n\n"
     "  mpirun -n 4 spt train --model M --train T --eval E --out RUN\n"
     "  mpirun -n 8 spt train --num-partitions 4 --model M --train T --out RUN    # two replicas\n"
     "  mpirun -n 4 spt eval --model M --prompt RUN --data D\n\n"
     "All must have the same program, options, data and base; what differs is named before the\n"
     "first step. --comm-timeout names a process that hangs. A signal to any of them stops all\n"
     "after saving; another N or K continues the run. `spt plan --ranks N --bandwidth SIZE` says\n"
     "what it would take.\n\n"
     "docs/several-machines.md has builds, host files and batch systems."},
    {"environment", "environment variables",
     "Files and the machine:\n\n"
     "  SPT_DATA_DIR               where the demo's model and data are (default: "
     "PREFIX/share/spt)\n"
     "  SPT_CONFIGS                a directory with gin files, searched before those installed\n"
     "  SPT_ISA                    kernels: auto, ref, ref64, avx2, avx512 (as --isa)\n"
     "  SPT_NO_MMAP=1              files are read instead of mapped\n"
     "  SPT_PIN=1                  threads are pinned, one a core\n"
     "  SPT_ONEDNN=0, =1           bfloat16 products: our kernels, oneDNN's\n"
     "  DNNL_MAX_CPU_ISA           instructions that oneDNN may use; spt follows it\n"
     "  TMPDIR                     where `spt demo` trains without --out\n\n"
     "Data sets (`spt help data`):\n\n"
     "  TFDS_DATA_DIR              prepared data sets of gin runs\n"
     "  SPT_OFFLINE=1              nothing is fetched (also HF_HUB_OFFLINE)\n"
     "  SPT_DATA_MIRROR            a directory or address with the published files\n"
     "  SPT_DATA_NO_VERIFY=1       these need not be the published ones\n\n"
     "Names on the Hugging Face hub (`spt help models`), as huggingface_hub uses them:\n\n"
     "  HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME\n"
     "                             where its cache is\n"
     "  HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE\n"
     "                             1: only the cache\n"
     "  HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_TOKEN_PATH, HF_HUB_DISABLE_IMPLICIT_TOKEN\n"
     "                             who asks\n"
     "  HF_ENDPOINT                another server\n"
     "  HF_HUB_ETAG_TIMEOUT, HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_DISABLE_SYMLINKS\n\n"
     "Buckets and the web (`spt help buckets`):\n\n"
     "  GOOGLE_APPLICATION_CREDENTIALS\n"
     "                             a key file: who asks\n"
     "  CLOUDSDK_CONFIG            where gcloud keeps its credentials (~/.config/gcloud)\n"
     "  CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE\n"
     "                             another address of the service\n"
     "  STORAGE_EMULATOR_HOST      an emulator; nobody asks\n"
     "  GCE_METADATA_HOST          another metadata server; NO_GCE_CHECK=true: none\n"
     "  SPT_CACHE_DIR              copies (default: $XDG_CACHE_HOME/spt, ~/.cache/spt)\n"
     "  SPT_CACHE_SIZE             most bytes of them (64G)\n"
     "  SPT_LEASE_SECONDS          how long a trainer's lock outlives it (60)\n"
     "  SPT_HTTP_PARALLEL          connections at a time (8)\n"
     "  SPT_HTTP_RETRIES           tries after the first (7)\n"
     "  SPT_HTTP_TIMEOUT           seconds without a byte until a transfer has stalled (30)\n"
     "  SSL_CERT_FILE, CURL_CA_BUNDLE, SSL_CERT_DIR\n"
     "                             authorities to trust instead of the system's\n"
     "  https_proxy, no_proxy      proxies"},
};
enum { TOPICS = sizeof topics / sizeof *topics };

size_t spt_topic_count(void)
{
    return TOPICS;
}

const spt_topic *spt_topic_at(size_t i)
{
    return i < TOPICS ? &topics[i] : NULL;
}

const spt_topic *spt_topic_find(const char *name)
{
    for (size_t i = 0; i < TOPICS; i++)
        if (!strcmp(topics[i].name, name))
            return &topics[i];
    return NULL;
}
