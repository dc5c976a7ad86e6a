/* What the gin files of prompt-tuning and T5X can name: every configurable with its parameters and
 * defaults, the modules they are imported from, and the macros with their meaning. Facts of the
 * upstream tree (spec/gin.md, section 4), as data; what a name builds is decided in run/.
 *
 * Signatures are written as in Python. A default that is no literal (jnp.float32) stays a text. */
#include "gin/gin_internal.h"

// clang-format off
static const gin_def definitions[] = {
    /* Entry points (root configurables) */
    {"__main__", "train", GIN_FUNCTION,
     "*, model, model_dir, train_dataset_cfg, train_eval_dataset_cfg, "
     "infer_eval_dataset_cfg, checkpoint_cfg, partitioner, trainer_cls, total_steps, "
     "eval_steps, eval_period, relative_steps=None, random_seed, use_hardware_rng=False, "
     "summarize_config_fn, inference_evaluator_cls=seqio.Evaluator, stats_period=None, "
     "get_dataset_fn=utils.get_dataset, concurrent_metrics=True, actions=None, "
     "train_eval_get_dataset_fn=utils.get_training_eval_datasets, "
     "run_eval_before_training=False, "
     "train_state_initializer_cls=utils.TrainStateInitializer, use_orbax=True, "
     "verify_matching_vocabs_fn=utils.verify_matching_vocabs, gc_period=0",
     false, "called once by the training binary"},
    {"__main__", "evaluate", GIN_FUNCTION,
     "*, fallback_init_rng=None, model, dataset_cfg, partitioner, restore_checkpoint_cfg, "
     "output_dir, inference_evaluator_cls=seqio.Evaluator, training_evaluator_cls=None, "
     "summarize_config_fn=gin_utils.summarize_gin_config, "
     "train_state_initializer_cls=utils.TrainStateInitializer, "
     "train_eval_get_dataset_fn=utils.get_training_eval_datasets, use_orbax=True",
     false, "called once by the evaluation binary"},
    {"__main__", "infer", GIN_FUNCTION,
     "*, fallback_init_rng=None, mode, model, output_dir, dataset_cfg, partitioner, "
     "restore_checkpoint_cfg, checkpoint_period, shard_id=0, num_shards=1, "
     "merge_chunked_results=True, write_fn=write_inferences_to_file, "
     "checkpoint_ds_iter=True, train_state_initializer_cls=utils.TrainStateInitializer, "
     "merge_fn=merge_chunks_to_file, summarize_config_fn=gin_utils.summarize_gin_config, "
     "verify_matching_vocabs_fn=utils.verify_matching_vocabs, "
     "output_vocab_feature_name='targets', file_extension='jsonl', keep_aux_as_numpy=False, "
     "use_orbax=True",
     false, "called once by the inference binary"},
    /* Data set, checkpoint, partitioning, trainer, learning rate */
    {"t5x.utils", "DatasetConfig", GIN_CLASS,
     "pack=False, batch_size, use_cached=False, mixture_or_task_name, task_feature_lengths, "
     "split, shuffle, seed, module=None, use_custom_packing_ops=False, "
     "use_memory_cache=True, trim_output_features=True, runtime_preprocessors=None, "
     "num_prefetch_threads=None, num_workers=0",
     false, "plain record describing one data set view"},
    {"t5x.utils", "CheckpointConfig", GIN_CLASS,
     "restore=None, save=None",
     false, "pair of save/restore settings"},
    {"t5x.utils", "SaveCheckpointConfig", GIN_CLASS,
     "checkpointer_cls=checkpoints.Checkpointer, period=None, keep=None, dtype='float32', "
     "save_dataset=False, checkpoint_steps=None, keep_dataset_checkpoints=None, "
     "state_transformation_fns=[], "
     "checkpoint_manager_cls=checkpoints.OrbaxCheckpointManagerInterface",
     false, "when and how checkpoints are saved"},
    {"t5x.utils", "RestoreCheckpointConfig", GIN_CLASS,
     "fallback_to_scratch=False, assignment_map=None, path, mode='latest', dtype=None, "
     "strict=True, restore_dataset=False, checkpointer_cls=checkpoints.Checkpointer, "
     "state_transformation_fns=(), "
     "checkpoint_manager_cls=checkpoints.OrbaxCheckpointManagerInterface",
     false, "which checkpoint is restored, and how"},
    {"prompt_tuning.train.utils", "Checkpointer", GIN_CLASS,
     "save_paths, **kwargs",
     false, "checkpointer that also writes parameters whose path matches a pattern as NumPy files"},
    {"t5x.partitioning", "PjitPartitioner", GIN_CLASS,
     "logical_axis_rules=None, num_partitions=None, model_parallel_submesh=None, "
     "params_on_devices=True, backend=None, ici_mesh_shape=None, dcn_mesh_shape=None",
     false, "device partitioner"},
    {"t5x.partitioning", "standard_logical_axis_rules", GIN_FUNCTION,
     "additional_rules=None, activation_partitioning_dims=1, parameter_partitioning_dims=1",
     false, "returns the list of (logical axis, mesh axis) rules"},
    {"t5x.trainer", "Trainer", GIN_CLASS,
     "num_microbatches, learning_rate_fn, model, train_state, partitioner, eval_names, "
     "summary_dir, train_state_axes, rng, weight_metrics_computer=None",
     false, "training loop body: micro-batches and learning rate"},
    {"t5x.utils", "create_learning_rate_scheduler", GIN_FUNCTION,
     "factors='constant * linear_warmup * rsqrt_decay', base_learning_rate=0.5, "
     "warmup_steps=1000, decay_factor=0.5, steps_per_decay=20000, steps_per_cycle=100000, "
     "step_offset=0, min_learning_rate=1e-08",
     false, "returns step -> learning rate"},
    /* Evaluation and logging */
    {"seqio", "Evaluator", GIN_CLASS,
     "logger_cls=(), num_examples=None, use_memory_cache=True, mixture_or_task_name, "
     "feature_converter, eval_split='validation', use_cached=False, seed=42, "
     "sequence_length=None, shuffle=False, log_dir=None, async_compute_metrics=True, "
     "target_field_name='targets'",
     false, "decodes the evaluation data and computes metrics"},
    {"seqio", "JSONLogger", GIN_CLASS,
     "write_n_results=None, output_dir, json_encoder_cls=TensorAndNumpyEncoder",
     false, "writes metrics and predictions as JSON lines"},
    /* Model wrapper, vocabulary, decoding */
    {"t5x.models", "EncoderDecoderModel", GIN_CLASS,
     "module, input_vocabulary, output_vocabulary, optimizer_def, z_loss=0.0, "
     "label_smoothing=0.0, loss_normalizing_factor=None, decode_fn=decoding.beam_search, "
     "feature_converter_cls=None, default_decoder_params=None",
     false, "the model: module, vocabularies, optimizer, losses, decoding"},
    {"t5x.models", "EncoderDecoderModel.predict_batch_with_aux", GIN_METHOD,
     "num_decodes=None, params, batch, rng=None, decoder_params=None, "
     "return_all_decodes=None, prompt_with_targets=False",
     false, "decoding of one batch"},
    {"seqio", "SentencePieceVocabulary", GIN_CLASS,
     "sentencepiece_model_file, extra_ids=0, normalizer_spec_overrides=None, "
     "reverse_extra_ids=True, use_fast_tokenizer=False",
     false, "tokenizer"},
    {"t5x.decoding", "beam_search", GIN_FUNCTION,
     "alpha=0.6, inputs, cache, tokens_to_logits, eos_id, num_decodes=4, "
     "max_decode_len=None, max_decode_step=-1, min_log_prob=NEG_INF_VALUE, decode_rng=None, "
     "cache_offset=0, initial_index=None",
     false, "beam search"},
    {"t5x.decoding", "temperature_sample", GIN_FUNCTION,
     "temperature=1.0, topp=0.0, topk=1, inputs, cache, tokens_to_logits, eos_id, "
     "decode_rng=None, num_decodes=1, cache_offset=0, initial_index=None, "
     "max_decode_steps=None, max_decode_steps_hard_limit=None, rescale_log_probs=True, "
     "state_callback_fn=None, logit_callback_fn=None",
     false, "sampling with temperature, top-k and top-p"},
    /* Optimizer */
    {"t5x.optimizers", "MultiOptimizer", GIN_CLASS,
     "traversals_and_optimizers",
     false, "applies each sub-optimizer to the parameters selected by its traversal"},
    {"t5x.optimizers", "adamw", GIN_FUNCTION,
     "learning_rate, b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0, mu_dtype=None, "
     "weight_decay=0.0001, mask=None",
     false, "Adam with decoupled weight decay"},
    {"t5x.optimizers", "adam", GIN_FUNCTION,
     "learning_rate, b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0, mu_dtype=None",
     false, "Adam"},
    {"flax.traverse_util", "ModelParamTraversal", GIN_CLASS,
     "filter_fn",
     false, "selects parameters by a predicate on (path, value)"},
    {"prompt_tuning.train.utils", "match_any", GIN_FUNCTION,
     "regexes",
     false, "true for paths that one of the regexes matches completely"},
    {"t5x.adafactor", "Adafactor", GIN_CLASS,
     "decay_rate=0.8, step_offset=0, logical_factor_rules=None, "
     "multiply_by_parameter_scale=True, weight_decay_rate=None, factor_map=None, "
     "learning_rate=None, factored=True, beta1=None, clipping_threshold=1.0, "
     "min_dim_size_to_factor=128, epsilon1=1e-30, epsilon2=0.001, "
     "dtype_momentum=jnp.float32, weight_decay_rate_lr_exponent=None, "
     "global_norm_clip_threshold=None, max_parameter_scale=None, skip_nan_updates=False",
     false, "optimizer definition"},
    {"t5x.adafactor", "HParamMap", GIN_CLASS,
     "rules",
     false, "regex -> hyper-parameter map"},
    {"t5x.adafactor", "standard_factor_rules", GIN_FUNCTION,
     "scan_layers=False",
     false, "only referenced by the 150B config"},
    /* Architecture (flaxformer) */
    {"flaxformer.architectures.t5.t5_architecture", "EncoderDecoder", GIN_CLASS,
     "encoder_factory, decoder_factory, shared_token_embedder_factory=None, "
     "dtype=jnp.float32, scan_layers=False, spmd_annotations=None, parent=None, name=None",
     false, "non-prompted top module"},
    {"flaxformer.architectures.t5.t5_architecture", "DecoderOnly", GIN_CLASS,
     "scan_layers=False, decoder_factory, dtype=jnp.float32, parent=None, name=None",
     false, "only mentioned by the 150B config"},
    {"flaxformer.architectures.t5.t5_architecture", "Encoder", GIN_CLASS,
     "num_layers, layer_factory, input_dropout_factory, output_dropout_factory, "
     "layer_norm_factory, position_embedder_factory=None, "
     "shared_relative_position_bias_factory=None, dtype=jnp.float32, scan_layers=False, "
     "layer_remat=LayerRemat.LEGACY, spmd_annotations=None, scan_axis=1, "
     "token_embedder_factory=None, shared_token_embedder=None, sow_intermediates=False, "
     "capture_gradients=False, parent=None, name=None",
     false, "non-prompted encoder"},
    {"flaxformer.architectures.t5.t5_architecture", "EncoderLayer", GIN_CLASS,
     "attention, mlp, dropout_factory, layer_norm_factory, activation_partitioning_dims=1, "
     "scanned=False, relative_position_bias_factory=None, "
     "shared_relative_position_bias=None, parallel=False, sow_intermediates=False, "
     "parent=None, name=None",
     false, "built once per layer through layer_factory"},
    {"flaxformer.architectures.t5.t5_architecture", "Decoder", GIN_CLASS,
     "num_layers, layer_factory, dropout_factory, layer_norm_factory, "
     "position_embedder_factory=None, shared_relative_position_bias_factory=None, "
     "output_logits_factory=None, dtype=jnp.float32, scan_layers=False, "
     "layer_remat=LayerRemat.LEGACY, spmd_annotations=None, token_embedder_factory=None, "
     "shared_token_embedder=None, sow_intermediates=False, scan_axis=1, "
     "capture_gradients=False, parent=None, name=None",
     false, "shared by prompted and non-prompted models"},
    {"flaxformer.architectures.t5.t5_architecture", "DecoderLayer", GIN_CLASS,
     "self_attention, encoder_decoder_attention, mlp, dropout_factory, layer_norm_factory, "
     "activation_partitioning_dims=1, scanned=False, relative_position_bias_factory=None, "
     "shared_relative_position_bias=None, parallel=False, sow_intermediates=False, "
     "parent=None, name=None",
     false, "built once per decoder layer"},
    {"flaxformer.components.attention.dense_attention", "MultiHeadDotProductAttention", GIN_CLASS,
     "num_heads, dtype=jnp.float32, head_dim=None, kernel_init=default_kernel_init, "
     "bias_init=initializers.zeros, use_bias, broadcast_dropout=True, dropout_rate=0.0, "
     "k_conv=None, v_conv=None, qkv_features=None, out_features=None, precision=None, "
     "qkv_kernel_init=None, kv_kernel_init=None, q_kernel_init=None, rescale_logits=False, "
     "attention_fn=staticmethod(dot_product_attention), use_extra_logit=False, "
     "float32_logits=False, output_projection=True, sow_intermediates=False, "
     "split_head_kernel=False, kernels_to_fuse=None, use_rotary_embedding=False, "
     "rotary_embedding_max_timescale=10000.0, sharding_over_head_dimension=True, "
     "q_conv=None, dense_general_factory=dense.DenseGeneral, parent=None, name=None",
     false, "one binding set serves encoder self-, decoder self- and cross-attention"},
    {"flaxformer.components.dense", "MlpBlock", GIN_CLASS,
     "use_bias, intermediate_dim=2048, activations=('relu',), "
     "kernel_init=nn.initializers.xavier_uniform(), "
     "bias_init=nn.initializers.normal(stddev=1e-06), intermediate_dropout_rate=0.1, "
     "final_dropout_rate=0.1, dtype=jnp.float32, intermediate_conv=None, "
     "wi_fused_kernel_init=None, intermediate_dropout=None, final_dropout=None, "
     "out_dim=None, precomputed_intermediates=False, fuse_kernels=False, "
     "input_axis_name='embed', activations_axis_name='mlp_activations', "
     "intermediate_axis_name='mlp', output_axis_name='embed', "
     "data_sharding_constraints=None, activation_partitioning_dims=2, use_aqt=False, "
     "weight_params=None, act_params=None, possibly_use_quantized_vars=False, "
     "dense_general_factory=DenseGeneral, parent=None, name=None",
     false, "gated feed-forward block"},
    {"flaxformer.components.dense", "DenseGeneral", GIN_CLASS,
     "features, use_bias, dtype=jnp.float32, kernel_init=default_kernel_init, "
     "bias_init=nn.initializers.zeros, kernel_axis_names=None, axis=-1, precision=None, "
     "reshaped_kernel_axis_name_map=_RESHAPED_KERNEL_AXIS_NAME_MAP, reshape_kernel=True, "
     "parent=None, name=None",
     false, "a dense layer; used for the output projection"},
    {"flaxformer.components.embedding", "Embed", GIN_CLASS,
     "num_embeddings, features, cast_input_dtype=None, dtype=jnp.float32, attend_dtype=None, "
     "embedding_init=default_embed_init, one_hot=False, name=None, axes=('vocab', 'embed'), "
     "input_axis_names=('batch', 'length'), parent=None",
     false, "token embedding shared by encoder and decoder"},
    {"flaxformer.components.relative_position_biases", "RelativePositionBiases", GIN_CLASS,
     "num_heads, dtype, num_buckets, max_distance, "
     "embedding_init=nn.linear.default_embed_init, head_axis_name='heads', "
     "on_device_computation=False, parent=None, name=None",
     false, "one instance per stack (encoder, decoder), shared by its layers"},
    {"flaxformer.components.layer_norm", "T5LayerNorm", GIN_CLASS,
     "dtype=jnp.float32, epsilon=1e-06, scale_init=nn.initializers.ones, use_scale=True, "
     "conv=None, center_scale_at_zero=False, scale_axis_name='embed', parent=None, name=None",
     false, "RMS norm"},
    {"flax.linen", "Dropout", GIN_CLASS,
     "rate, broadcast_dims=(), deterministic=None, rng_collection='dropout', parent=None, "
     "name=None",
     false, "dropout"},
    {"flax.linen", "initializers.normal", GIN_FUNCTION,
     "stddev=0.01, dtype=float",
     false, "initializer: normal"},
    {"flax.linen", "initializers.uniform", GIN_FUNCTION,
     "scale=0.01, dtype=float",
     false, "initializer: uniform in [0, scale)"},
    {"flax.linen", "initializers.variance_scaling", GIN_FUNCTION,
     "scale, mode, distribution, in_axis=-2, out_axis=-1, batch_axis=(), dtype=float",
     false, "initializer: variance scaled by fan"},
    /* Prompt layers, masks and prompt parameter */
    {"prompt_tuning.train.layers", "PromptEncoderDecoder", GIN_CLASS,
     "encoder_mask_factory=None, add_fake_prompt_factory=None, encoder_factory, "
     "decoder_factory, shared_token_embedder_factory=None, dtype=jnp.float32, "
     "scan_layers=False, spmd_annotations=None, parent=None, name=None",
     false, "top module of prompted models"},
    {"prompt_tuning.train.layers", "PromptEncoder", GIN_CLASS,
     "prompt_factory=None, add_fake_prompt_factory=None, num_layers, layer_factory, "
     "input_dropout_factory, output_dropout_factory, layer_norm_factory, "
     "position_embedder_factory=None, shared_relative_position_bias_factory=None, "
     "dtype=jnp.float32, scan_layers=False, layer_remat=LayerRemat.LEGACY, "
     "spmd_annotations=None, scan_axis=1, token_embedder_factory=None, "
     "shared_token_embedder=None, sow_intermediates=False, capture_gradients=False, "
     "parent=None, name=None",
     false, "encoder that inserts the prompt after token embedding"},
    {"prompt_tuning.train.layers", "PromptDecoder", GIN_CLASS,
     "prompt_factory=None, add_fake_prompt_factory=None, "
     "shared_relative_position_bias_factory=None, scan_layers=False, "
     "layer_remat=LayerRemat.LEGACY, layer_factory, dropout_factory, layer_norm_factory, "
     "num_layers, dtype=jnp.float32, spmd_annotations=None, output_logits_factory=None, "
     "token_embedder_factory=None, shared_token_embedder=None, "
     "position_embedder_factory=None, sow_intermediates=False, scan_axis=1, "
     "capture_gradients=False, parent=None, name=None",
     false, "only mentioned by the 150B config"},
    {"prompt_tuning.masks", "create_prompt_encoder_mask", GIN_FUNCTION,
     "prompt_length",
     false, "returns mask(inputs, dtype)"},
    {"prompt_tuning.masks", "add_fake_prompt", GIN_FUNCTION,
     "prompt_length, multitask=False",
     false, "returns a function prefixing ones for the prompt positions"},
    {"prompt_tuning.train.prompts", "Prompt", GIN_CLASS,
     "prompt, combine=prefix_prompt, parent=None, name=None",
     false, "training-time module combining prompt and embedded input"},
    {"prompt_tuning.prompts", "Prompt", GIN_CLASS,
     "length, prompt_init=nn.initializers.uniform(), axis_names=('prompt', 'prompt_embed'), "
     "dtype=jnp.float32, parent=None, name=None",
     false,
     "the trainable parameter, path encoder/prompt/prompt/prompt, shape (length, embed dim)"},
    {"prompt_tuning.prompts", "from_array", GIN_FUNCTION,
     "prompt",
     false, "initializer from an array"},
    {"prompt_tuning.prompts", "from_embedded_list", GIN_FUNCTION,
     "embeddings, vocab, texts, initializer=None",
     false, "initializer: row i = mean embedding of the pieces of text i"},
    {"prompt_tuning.prompts", "from_embedded_string", GIN_FUNCTION,
     "embeddings, vocab, text, initializer=None",
     false, "initializer: row i = embedding of piece i of one string"},
    {"prompt_tuning.prompts", "from_sample_of_embeddings", GIN_FUNCTION,
     "embeddings, population_size=None",
     false, "initializer: rows drawn from the first population_size vocabulary rows"},
    {"prompt_tuning.prompts", "np_load", GIN_FUNCTION,
     "path, restore_dtype=None",
     false, "loads a .npy array"},
    {"prompt_tuning.prompts", "t5x_load", GIN_FUNCTION,
     "checkpoint_path, variable_path, restore_dtype=None",
     false, "loads one variable of a T5X checkpoint"},
    /* Extended: multi-task prompts */
    {"prompt_tuning.extended.masks", "prompt_encoder_attention_mask", GIN_FUNCTION,
     "prompt_length, allowable_attention=None, multitask=False",
     false, "encoder mask with a prompt, attention chosen by part"},
    {"prompt_tuning.extended.train.multitask_prompts", "MultiTaskPrompt", GIN_CLASS,
     "prompt, combine=prompts.prefix_prompt, parent=None, name=None",
     false, "combines batched prompts with the embedded input"},
    {"prompt_tuning.extended.multitask_prompts", "AddMultiTaskPrompt", GIN_CLASS,
     "get_task_size=match_shared, combine_shared_and_tasks=add_shared_and_tasks, length, "
     "num_tasks, to_task_idx=identity, shared_init=nn.initializers.uniform(), "
     "tasks_init=nn.initializers.uniform(), dtype=jnp.float32, "
     "get_shared_features=input_features, shared_prompt_axis_names=('prompt', 'embed'), "
     "individual_prompt_axis_names=('tasks', 'prompt+embed'), parent=None, name=None",
     false, "sum of a shared prompt and a task specific prompt"},
    {"prompt_tuning.extended.multitask_prompts", "sentinel_to_task", GIN_FUNCTION,
     "x, vocab_size",
     false, "maps sentinel token id x to vocab_size - 1 - x"},
    /* Extended: per-layer prompts, IA3 */
    {"prompt_tuning.extended.train.per_layer", "PromptEncoderLayer", GIN_CLASS,
     "prompt_factory=None, attention, mlp, dropout_factory, layer_norm_factory, "
     "activation_partitioning_dims=1, relative_position_bias_factory=None, "
     "shared_relative_position_bias=None, parallel=False, sow_intermediates=False, "
     "scanned=False, parent=None, name=None",
     false, "encoder layer with its own prompt"},
    {"prompt_tuning.extended.train.ia3", "IA3", GIN_CLASS,
     "ia3_init=nn.initializers.ones, axis_name=('embed',), dtype=jnp.float32, parent=None, "
     "name=None",
     false, "multiplicative scaling for the MLP"},
    {"prompt_tuning.extended.train.ia3", "IA3Attention", GIN_CLASS,
     "ia3_init=nn.initializers.ones, axis_names=('heads', 'kv'), dtype=jnp.float32, "
     "parent=None, name=None",
     false, "multiplicative scaling for keys and values"},
    /* Extended: wayward prompts */
    {"prompt_tuning.extended.train.wayward", "WaywardPromptEncoderDecoderModel", GIN_CLASS,
     "module, input_vocabulary, output_vocabulary, optimizer_def, "
     "decode_fn=decoding.beam_search, feature_converter_cls=None, label_smoothing=0.0, "
     "z_loss=0.0, loss_normalizing_factor=None, gamma=0.01, distance=squared_l2_distance, "
     "discrete_prompt=None, prompt_path='encoder/prompt/prompt/prompt'",
     false, "the model with gamma * distance(prompt, discrete_prompt) added to the loss"},
    {"prompt_tuning.extended.train.wayward", "encode_string", GIN_FUNCTION,
     "s, vocab, format_values=None",
     false, "tokenizes a (formatted) string into pieces"},
    {"prompt_tuning.extended.train.wayward", "length", GIN_FUNCTION,
     "x",
     false, "number of elements"},
    {"prompt_tuning.extended.train.wayward", "execute_initializer", GIN_FUNCTION,
     "init, rng, shape",
     false, "calls an initializer outside model init"},
    /* Extended: perceptron / cross-entropy label models */
    {"prompt_tuning.extended.perceptron.train.models", "CrossEntropyEncoderDecoderModel", GIN_CLASS,
     "length_normalize, **kwargs",
     false, "scores only the valid labels"},
    {"prompt_tuning.extended.perceptron.train.models", "PerceptronLossEncoderDecoderModel",
     GIN_CLASS,
     "hinge, length_normalize, **kwargs",
     false, "ranking loss over valid labels"},
    /* Only referenced, or alternatives to what the files reference. */
    {"prompt_tuning.prompts", "InferenceOnlyPrompt", GIN_CLASS,
     "length, embed_dim, prompt_init, dtype=jnp.float32, parent=None, name=None",
     false, "a prompt that is never trained"},
    {"prompt_tuning.masks", "create_prompt_decoder_only_mask", GIN_FUNCTION,
     "prompt_length",
     false, "mask of a decoder-only model with a prompt"},
    {"prompt_tuning.train.prompts", "prefix_prompt", GIN_FUNCTION,
     "prompt, x_embed, x",
     false, "prompt in front of the input"},
    {"prompt_tuning.train.prompts", "prefix_prompt_after_bos", GIN_FUNCTION,
     "prompt, x_embed, x",
     false, "prompt behind the first token"},
    {"prompt_tuning.train.prompts", "suffix_prompt", GIN_FUNCTION,
     "prompt, x_embed, x, decoder_only=False, before_eos=True",
     false, "prompt behind the input"},
    {"prompt_tuning.train.optim", "standard_logical_factor_rules", GIN_FUNCTION,
     "rules=None",
     false, "which axes Adafactor factors; prompt axes are not"},
    {"prompt_tuning.train.partitioning", "standard_logical_axis_rules", GIN_FUNCTION,
     "",
     false, "sharding of prompt axes: replicated"},
    {"prompt_tuning.extended.masks", "prompt_decoder_attention_mask", GIN_FUNCTION,
     "prompt_length, allowable_attention=None, multitask=False",
     false, "decoder mask with chosen attention"},
    {"prompt_tuning.extended.multitask_prompts", "identity", GIN_FUNCTION,
     "x",
     false, "token id is the task index"},
    {"prompt_tuning.extended.multitask_prompts", "add_shared_and_tasks", GIN_FUNCTION,
     "shared, tasks",
     false, "sum of shared and task prompt"},
    {"prompt_tuning.extended.multitask_prompts", "concat_shared_and_tasks", GIN_FUNCTION,
     "shared, tasks",
     false, "task prompt behind the shared one"},
    {"prompt_tuning.extended.multitask_prompts", "concat_features_shared_and_tasks", GIN_FUNCTION,
     "shared, tasks",
     false, "task features beside the shared ones"},
    {"prompt_tuning.extended.multitask_prompts", "project_shared_with_tasks", GIN_FUNCTION,
     "shared, tasks",
     false, "shared prompt projected by the task"},
    {"prompt_tuning.extended.multitask_prompts", "input_features", GIN_FUNCTION,
     "self, x_embed_features",
     false, "as many features as the input"},
    {"prompt_tuning.extended.multitask_prompts", "shared_features_attr_or_input_features",
     GIN_FUNCTION,
     "self, x_embed_features",
     false, "features of the shared prompt"},
    {"prompt_tuning.extended.multitask_prompts", "match_shared", GIN_FUNCTION,
     "self, shared_length, shared_features",
     false, "task prompt as large as the shared one"},
    {"prompt_tuning.extended.multitask_prompts", "task_length_attr_or_match_shared", GIN_FUNCTION,
     "self, shared_length, shared_features",
     false, "length of the task prompt"},
    {"prompt_tuning.extended.multitask_prompts", "task_features_or_match_shared", GIN_FUNCTION,
     "self, shared_length, shared_features",
     false, "features of the task prompt"},
    {"prompt_tuning.extended.multitask_prompts", "projection_size", GIN_FUNCTION,
     "self, shared_length, shared_features",
     false, "size of the task projection"},
    {"prompt_tuning.extended.multitask_prompts", "MultiTaskPrompt", GIN_CLASS,
     "length, num_tasks, to_task_idx=identity, shared_init=nn.initializers.uniform(), "
     "tasks_init=nn.initializers.uniform(), get_shared_features=input_features, "
     "get_task_size=None, combine_shared_and_tasks=None, shared_prompt_axis_names=('prompt', "
     "'embed'), individual_prompt_axis_names=('tasks', 'prompt+embed'), dtype=jnp.float32, "
     "parent=None, name=None",
     false, "shared prompt combined with a task prompt"},
    {"prompt_tuning.extended.multitask_prompts", "ConcatMultiTaskPrompt", GIN_CLASS,
     "length, num_tasks, to_task_idx=identity, shared_init=nn.initializers.uniform(), "
     "tasks_init=nn.initializers.uniform(), get_shared_features=input_features, "
     "get_task_size=None, combine_shared_and_tasks=None, shared_prompt_axis_names=('prompt', "
     "'embed'), individual_prompt_axis_names=('tasks', 'prompt+embed'), dtype=jnp.float32, "
     "task_length=None, parent=None, name=None",
     false, "task prompt behind the shared one"},
    {"prompt_tuning.extended.multitask_prompts", "ConcatFeaturesMultiTaskPrompt", GIN_CLASS,
     "length, num_tasks, to_task_idx=identity, shared_init=nn.initializers.uniform(), "
     "tasks_init=nn.initializers.uniform(), get_shared_features=input_features, "
     "get_task_size=None, combine_shared_and_tasks=None, shared_prompt_axis_names=('prompt', "
     "'embed'), individual_prompt_axis_names=('tasks', 'prompt+embed'), dtype=jnp.float32, "
     "task_features=None, shared_features=None, parent=None, name=None",
     false, "task features beside the shared ones"},
    {"prompt_tuning.extended.multitask_prompts", "ProjectMultiTaskPrompt", GIN_CLASS,
     "length, num_tasks, to_task_idx=identity, shared_init=nn.initializers.uniform(), "
     "tasks_init=nn.initializers.uniform(), get_shared_features=input_features, "
     "get_task_size=None, combine_shared_and_tasks=None, shared_prompt_axis_names=('prompt', "
     "'embed'), individual_prompt_axis_names=('tasks', 'prompt+embed'), dtype=jnp.float32, "
     "task_features=None, shared_features=None, parent=None, name=None",
     false, "shared prompt projected by the task"},
    {"prompt_tuning.extended.train.multitask_partitioning", "standard_logical_axis_rules",
     GIN_FUNCTION,
     "",
     false, "sharding of prompt and task axes: replicated"},
    {"prompt_tuning.extended.train.per_layer", "replace_prompt", GIN_FUNCTION,
     "prompt, x_embed, x",
     false, "overwrite the first P positions"},
    {"prompt_tuning.extended.train.per_layer", "add_prompt", GIN_FUNCTION,
     "prompt, x_embed, x",
     false, "add to the first P positions"},
    {"prompt_tuning.extended.train.wayward", "squared_l2", GIN_FUNCTION,
     "x",
     false, "sum of squares"},
    {"prompt_tuning.extended.train.wayward", "squared_l2_distance", GIN_FUNCTION,
     "x, y",
     false, "squared difference divided by the length"},
    {"seqio", "PyLoggingLogger", GIN_CLASS,
     "output_dir",
     false, "metrics to the log"},
    {"seqio", "TensorBoardLogger", GIN_CLASS,
     "output_dir",
     false, "metrics to TensorBoard event files"},
    {"seqio", "ByteVocabulary", GIN_CLASS,
     "extra_ids=0",
     false, "bytes, for ByT5"},
    {"seqio", "PassThroughVocabulary", GIN_CLASS,
     "size, eos_id=None",
     false, "numbers are ids already"},
    {"seqio", "Feature", GIN_CLASS,
     "vocabulary, add_eos=True, required=True, dtype=tf.int32, rank=1",
     false, "one feature of a task"},
    {"flax.linen", "initializers.zeros", GIN_FUNCTION,
     "key, shape, dtype=float",
     false, "zeros; itself an initializer"},
    {"flax.linen", "initializers.ones", GIN_FUNCTION,
     "key, shape, dtype=float",
     false, "ones; itself an initializer"},
    {"flax.linen", "initializers.constant", GIN_FUNCTION,
     "value, dtype=float",
     false, "a constant"},
    {"flax.linen", "initializers.xavier_uniform", GIN_FUNCTION,
     "in_axis=-2, out_axis=-1, batch_axis=(), dtype=float",
     false, "Glorot, uniform"},
    {"prompt_tuning.train.utils", "MultiOptimizer", GIN_CLASS,
     "traversals_and_optimizers",
     false, "older form of t5x.optimizers.MultiOptimizer"},
    {"t5x.checkpoints", "Checkpointer", GIN_CLASS,
     "train_state, partitioner, checkpoints_dir, dataset_iterator=None, keep=None, "
     "save_dtype=float32, restore_dtype=float32, use_gda=True, keep_dataset_checkpoints=None",
     false, "writes T5X checkpoints"},
    {"t5x.models", "get_input_vocabulary", GIN_FUNCTION,
     "model",
     false, "tokenizer of the encoder"},
    {"t5x.models", "get_output_vocabulary", GIN_FUNCTION,
     "model",
     false, "tokenizer of the decoder"},
    {"t5x.utils", "get_dataset", GIN_FUNCTION,
     "cfg, shard_id, num_shards, feature_converter_cls, num_epochs=None, "
     "continue_from_last_checkpoint=False",
     false, "opens the data of a DatasetConfig"},
    /* Known to static files from the start. */
    {"t5x.gin_utils", "get_gin_config_str", GIN_FUNCTION,
     "show_provenance=False",
     true, "text of the configuration"},
    {"t5x.gin_utils", "summarize_gin_config", GIN_FUNCTION,
     "model_dir=%gin.REQUIRED, summary_writer=%gin.REQUIRED, step=%gin.REQUIRED",
     true, "writes config.gin and the TensorBoard text"},
    {"t5x.gin_utils", "sum_fn", GIN_FUNCTION,
     "var1=%gin.REQUIRED, var2=%gin.REQUIRED",
     true, "sum of two values"},
    {"t5x.gin_utils", "bool_fn", GIN_FUNCTION,
     "var1=%gin.REQUIRED",
     true, "truth of a value"},
    {"t5x.gin_utils", "string_split_fn", GIN_FUNCTION,
     "text=%gin.REQUIRED, separator=%gin.REQUIRED, maxsplit=-1, index=None",
     true, "splits a text"},
    {"t5x.checkpoints", "SaveBestCheckpointer", GIN_CLASS,
     "**kwargs",
     true, "keeps the checkpoints with the best metric"},
    {"t5x.checkpoints", "OrbaxCheckpointManagerInterface", GIN_CLASS,
     "**kwargs",
     true, "newer checkpoint writer"},
    {"t5x.checkpoints", "CheckpointManagerConstructor", GIN_CLASS,
     "**kwargs",
     true, "makes a checkpoint manager"},
    {"t5x.checkpoints_utils", "get_checkpoint_prefix", GIN_FUNCTION,
     "prefix='checkpoint'",
     true, "first part of the name of a checkpoint directory"},
};

static const char *const modules[] = {
    "__main__", "flax.linen", "flax.linen.initializers", "flax.traverse_util",
    "flaxformer.architectures.t5.t5_architecture",
    "flaxformer.components.attention.dense_attention", "flaxformer.components.dense",
    "flaxformer.components.embedding", "flaxformer.components.layer_norm",
    "flaxformer.components.relative_position_biases", "prompt_tuning.data.c4",
    "prompt_tuning.data.constants", "prompt_tuning.data.features", "prompt_tuning.data.glue",
    "prompt_tuning.data.glue_transfer", "prompt_tuning.data.metrics",
    "prompt_tuning.data.postprocessors", "prompt_tuning.data.preprocessors",
    "prompt_tuning.data.qa", "prompt_tuning.data.show_tasks", "prompt_tuning.data.summarization",
    "prompt_tuning.data.super_glue", "prompt_tuning.data.tasks", "prompt_tuning.data.utils",
    "prompt_tuning.extended.masks", "prompt_tuning.extended.multitask_prompts",
    "prompt_tuning.extended.perceptron.data.tasks",
    "prompt_tuning.extended.perceptron.train.models", "prompt_tuning.extended.train.ia3",
    "prompt_tuning.extended.train.multitask_partitioning",
    "prompt_tuning.extended.train.multitask_prompts", "prompt_tuning.extended.train.per_layer",
    "prompt_tuning.extended.train.wayward", "prompt_tuning.masks", "prompt_tuning.prompts",
    "prompt_tuning.recycling.data.c4", "prompt_tuning.recycling.data.imdb",
    "prompt_tuning.recycling.data.metrics", "prompt_tuning.recycling.data.preprocessors",
    "prompt_tuning.recycling.data.qqp", "prompt_tuning.recycling.data.rank_classification",
    "prompt_tuning.recycling.data.record", "prompt_tuning.recycling.data.sst2",
    "prompt_tuning.spot.data.glue", "prompt_tuning.spot.data.mrqa", "prompt_tuning.spot.data.nli",
    "prompt_tuning.spot.data.preprocessors", "prompt_tuning.spot.data.summarization",
    "prompt_tuning.spot.data.tasks", "prompt_tuning.train.layers", "prompt_tuning.train.models",
    "prompt_tuning.train.optim", "prompt_tuning.train.partitioning", "prompt_tuning.train.prompts",
    "prompt_tuning.train.utils", "seqio", "t5x.adafactor", "t5x.checkpoints",
    "t5x.checkpoints_utils", "t5x.decoding", "t5x.gin_utils", "t5x.models", "t5x.optimizers",
    "t5x.partitioning", "t5x.trainer", "t5x.utils",
};

static const gin_macro_info macros[] = {
    {"ACTIVATION_DTYPE", "activation dtype everywhere",
     "by architectures/t5_1_1_flaxformer.gin"},
    {"ACTIVATION_PARTITIONING_DIMS", "activation sharding mode of layers",
     "by architectures/t5_1_1_flaxformer.gin"},
    {"ARCHITECTURE", "the neural module",
     "by an architecture file, included by the model files"},
    {"BATCH_SIZE", "batch size of all three train-time data sets",
     "by t5x/configs/runs/finetune.gin"},
    {"BIAS_INIT", "bias initializer",
     "by architectures/t5_1_1_flaxformer.gin"},
    {"CHECKPOINT_PATH", "checkpoint for eval/infer",
     "on the command line: --gin.CHECKPOINT_PATH=\"'DIR/checkpoint_N'\""},
    {"CLASS_LABELS", "list of label words for prompt initialisation",
     "on the command line: --gin.CLASS_LABELS=\"['positive', 'negative']\""},
    {"DROPOUT_FACTORY", "un-evaluated scoped dropout class",
     "by architectures/t5_1_1_flaxformer.gin"},
    {"DROPOUT_RATE", "dropout everywhere",
     "by architectures/t5_1_1_flaxformer.gin"},
    {"EMBED_DIM", "model width",
     "by a size file (models/sizes/base.gin) named after the model file, or a sized model file"},
    {"EMBEDDING_FILE", ".npy embedding table",
     "on the command line: --gin.EMBEDDING_FILE=\"'FILE.npy'\""},
    {"EVAL_OUTPUT_DIR", "eval result directory",
     "on the command line: --gin.EVAL_OUTPUT_DIR=\"'DIR'\""},
    {"EVAL_PERIOD", "train steps between evaluations",
     "by t5x/configs/runs/finetune.gin"},
    {"EVAL_STEPS", "batches of teacher-forced evaluation",
     "by t5x/configs/runs/finetune.gin"},
    {"EVALUATOR_NUM_EXAMPLES", "limit of decode-based evaluation",
     "by t5x/configs/runs/finetune.gin"},
    {"EVALUATOR_USE_MEMORY_CACHE", "see Evaluator.use_memory_cache",
     "by t5x/configs/runs/finetune.gin"},
    {"HEAD_DIM", "size per head",
     "by a size file (models/sizes/base.gin) named after the model file, or a sized model file"},
    {"INFER_OUTPUT_DIR", "inference result directory",
     "on the command line: --gin.INFER_OUTPUT_DIR=\"'DIR'\""},
    {"INITIAL_CHECKPOINT_PATH", "pretrained checkpoint",
     "on the command line: --gin.INITIAL_CHECKPOINT_PATH=\"'DIR/checkpoint_N'\""},
    {"JSON_WRITE_N_RESULTS", "JSONLogger limit",
     "by t5x/configs/runs/finetune.gin"},
    {"LABEL_SMOOTHING", "label smoothing",
     "by extended/models/ia3_t5_1_1.gin"},
    {"LAYER_REMAT", "recomputation policy",
     "by models/mt5_150b_prompt.gin"},
    {"LOSS_NORMALIZING_FACTOR", "see EncoderDecoderModel",
     "by extended/models/ia3_t5_1_1.gin"},
    {"MIXTURE_OR_TASK_MODULE", "module registering the task",
     "on the command line, optional"},
    {"MIXTURE_OR_TASK_NAME", "task or mixture",
     "on the command line: --gin.MIXTURE_OR_TASK_NAME=\"'TASK'\" (spt tasks lists them)"},
    {"MLP_DIM", "feed-forward width",
     "by a size file (models/sizes/base.gin) named after the model file, or a sized model file"},
    {"MODEL", "the model wrapper",
     "by a model file, such as prompt_tuning/configs/models/t5_1_1_base_prompt.gin"},
    {"MODEL_DIR", "train output directory",
     "on the command line: --gin.MODEL_DIR=\"'DIR'\""},
    {"NUM_DECODER_LAYERS", "decoder depth",
     "by a size file (models/sizes/base.gin) named after the model file, or a sized model file"},
    {"NUM_EMBEDDINGS", "vocabulary rows",
     "by a model file (32128 for T5 1.1, 250112 for mT5)"},
    {"NUM_ENCODER_LAYERS", "encoder depth",
     "by a size file (models/sizes/base.gin) named after the model file, or a sized model file"},
    {"NUM_HEADS", "attention heads",
     "by a size file (models/sizes/base.gin) named after the model file, or a sized model file"},
    {"NUM_TASKS", "number of multi-task prompts",
     "by extended/models/multi_task_t5_1_1_prompt.gin"},
    {"OPTIMIZER", "evaluated reference to the optimizer",
     "by extended/models/ia3_t5_1_1.gin"},
    {"PER_LAYER_PROMPT", "un-evaluated scoped prompt class for each layer",
     "by extended/models/t5_1_1_per_layer_prompt.gin"},
    {"PROMPT", "the training prompt module",
     "by a model file (models/t5_1_1_prompt.gin) or a prompt file (prompts/from_*.gin)"},
    {"PROMPT_FILE", ".npy prompt",
     "on the command line: --gin.PROMPT_FILE=\"'FILE.npy'\""},
    {"PROMPT_LENGTH", "prompt length",
     "by a model file (models/t5_1_1_prompt.gin: 100) or on the command line: "
     "--gin.PROMPT_LENGTH=20"},
    {"PROMPT_REGEX", "regexes of trainable/dumped parameters",
     "by extended/models/multi_task_t5_1_1_prompt.gin"},
    {"RANDOM_SEED", "train seed",
     "by t5x/configs/runs/finetune.gin"},
    {"SCALE", "scale of the variance-scaling initializers",
     "by architectures/t5_1_1_flaxformer.gin"},
    {"SHUFFLE_TRAIN_EXAMPLES", "shuffle",
     "by t5x/configs/runs/pretrain.gin"},
    {"TASK_FEATURE_LENGTHS", "max feature lengths",
     "on the command line: --gin.TASK_FEATURE_LENGTHS=\"{'inputs': 512, 'targets': 8}\""},
    {"TASK_PIECES", "evaluated: tokenized TASK_STRING",
     "by extended/models/wayward_t5_1_1_prompt.gin"},
    {"TASK_STRING", "discrete prompt text",
     "by extended/models/wayward_t5_1_1_prompt.gin"},
    {"TRAIN_STEPS", "absolute final step",
     "on the command line: --gin.TRAIN_STEPS=1_150_000 (counted from step 0 of the checkpoint)"},
    {"TRAIN_STEPS_RELATIVE", "additional steps",
     "by t5x/configs/runs/finetune.gin"},
    {"TRAINABLE_REGEX", "IA3 trainable parameters",
     "by extended/models/ia3_t5_1_1.gin"},
    {"USE_CACHED_TASKS", "read cached tasks",
     "by t5x/configs/runs/finetune.gin"},
    {"USE_HARDWARE_RNG", "hardware RNG",
     "by t5x/configs/runs/finetune.gin"},
    {"VERBALIZERS", "format values for TASK_STRING",
     "by extended/models/wayward_t5_1_1_prompt.gin"},
    {"VOCABULARY", "evaluated reference to the tokenizer",
     "by a model file (models/t5_1_1_prompt.gin, models/mt5_prompt.gin)"},
    {"Z_LOSS", "z loss",
     "by extended/models/ia3_t5_1_1.gin"},
};
// clang-format on

#define COUNT(a) (sizeof(a) / sizeof *(a))

spt_status gin_registry_upstream(gin_registry **out, spt_err *err)
{
    gin_registry *r = NULL;
    TRY(gin_registry_new(&r, err));
    spt_status st = gin_registry_add(r, definitions, COUNT(definitions), err);
    for (size_t i = 0; i < COUNT(modules) && !st; i++)
        st = gin_registry_add_module(r, modules[i], err);
    if (!st)
        st = gin_registry_add_macros(r, macros, COUNT(macros), err);
    if (st) {
        gin_registry_free(r);
        return st;
    }
    *out = r;
    return SPT_OK;
}
