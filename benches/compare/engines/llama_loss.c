// Cross-entropy of a sequence under a model, by llama.cpp.
//
//     llama_loss MODEL.gguf TOKENS.txt THREADS
//
// TOKENS.txt holds token ids, one a line; memory is reserved for all of them.
// For every line N on standard input it scores the first N and answers
// {"seconds": ..., "loss": ...} on a line of its own; the loss is the mean
// over the N - 1 tokens that have one before them.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "llama.h"

// llama.cpp computes this many positions at a time by default. Taking their
// logits at once, before the next, saves it the memory of all.
enum { CHUNK_TOKENS = 512, MAX_TOKENS = 8192 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "llama_loss: failed to %s\n", what);
    exit(1);
}

static double negative_log_probability(const float *logits, int vocabulary, llama_token target) {
    float max = logits[0];
    for (int i = 1; i < vocabulary; i++) max = logits[i] > max ? logits[i] : max;
    float sum = 0;
    for (int i = 0; i < vocabulary; i++) sum += expf(logits[i] - max);
    return (double)max + log(sum) - logits[target];
}

static double mean_loss(struct llama_context *context, llama_token *tokens, int count, int vocabulary,
                        int threads) {
    double total = 0;
    llama_memory_clear(llama_get_memory(context), false);
    struct llama_batch batch = llama_batch_init(CHUNK_TOKENS, 0, 1);
    for (int start = 0; start < count; start += CHUNK_TOKENS) {
        batch.n_tokens = count - start < CHUNK_TOKENS ? count - start : CHUNK_TOKENS;
        for (int i = 0; i < batch.n_tokens; i++) {
            batch.token[i] = tokens[start + i];
            batch.pos[i] = start + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        if (llama_decode(context, batch) != 0) fail("decode");
        const float *logits = llama_get_logits(context);
        int scored = start + batch.n_tokens < count ? batch.n_tokens : batch.n_tokens - 1;
#pragma omp parallel for reduction(+ : total) num_threads(threads)
        for (int i = 0; i < scored; i++)
            total += negative_log_probability(logits + (size_t)i * vocabulary, vocabulary, tokens[start + i + 1]);
    }
    llama_batch_free(batch);
    return total / (count - 1);
}

static void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

int main(int argc, char **argv) {
    if (argc != 4) fail("read the command line: expected MODEL TOKENS THREADS");
    int threads = atoi(argv[3]);

    static llama_token tokens[MAX_TOKENS];
    int available = 0;
    FILE *file = fopen(argv[2], "r");
    if (!file) fail("open the tokens");
    while (available < MAX_TOKENS && fscanf(file, "%d", &tokens[available]) == 1) available++;
    fclose(file);

    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) fail("load the model");
    int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = available;
    params.n_batch = CHUNK_TOKENS;
    params.n_ubatch = CHUNK_TOKENS;
    params.n_threads = params.n_threads_batch = threads;
    struct llama_context *context = llama_init_from_model(model, params);
    if (!context) fail("make a context");

    int count;
    while (scanf("%d", &count) == 1) {
        if (count < 2 || count > available) fail("score so many tokens");
        double start = now();
        double loss = mean_loss(context, tokens, count, vocabulary, threads);
        printf("{\"seconds\": %.6f, \"loss\": %.8f}\n", now() - start, loss);
        fflush(stdout);
    }
    llama_free(context);
    llama_model_free(model);
    return 0;
}
