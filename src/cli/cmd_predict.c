/* bnff predict: what is on these images? */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file_list.h"
#include "network.h"

enum { HUMAN, CSV, JSON, JSONL };

struct arguments { bnff_classifier_options classifier; int threads, topk, format; const char *output; };

static const char *const formats[] = {"human", "csv", "json", "jsonl", NULL};

#define OPTION(field) offsetof(struct arguments, classifier.field)
static const cli_option options[] = {
    {"topk,k", CLI_INT, offsetof(struct arguments, topk), "K", "Best guesses for each image (5; in csv 1).", 1, 1 << 24},
    {"format,results-format,f", CLI_CHOICE, offsetof(struct arguments, format), "NAME",
     "human, csv, json (one document) or jsonl (a line an image). Default: by the ending of -o; human on a terminal, else csv.", .choices = formats},
    {"output,o", CLI_STRING, offsetof(struct arguments, output), "FILE", "Write here; the file appears when it is complete."},
    {"model,m", CLI_STRING, OPTION(model), "NAME", "Architecture, where the weights do not name it."},
    {"img-size,imgsz,val-crop-size", CLI_INT, OPTION(crop_size), "N", "Side of the images. Default: of the weights.", 1, 4096},
    {"val-resize-size", CLI_INT, OPTION(resize_size), "N", "Shorter side before the centre crop. Default: of the weights.", 1, 8192},
    {"conv", CLI_STRING, OPTION(algorithm), "NAME", CLI_CONV_HELP},
    {"threads,t", CLI_INT, offsetof(struct arguments, threads), "N", CLI_THREADS_HELP, 1, 4096},
    {0},
};

/* -- Results ------------------------------------------------------------------------------------------------------- */

struct guess { int label; float probability; };

/* The k most probable labels, best first; of equal ones the lower label. */
static void best_guesses(const float *probabilities, int classes, struct guess *best, int k)
{
    int count = 0;
    for (int c = 0; c < classes; c++) {
        if (count == k && !(probabilities[c] > best[k - 1].probability)) continue;
        int at = count < k ? count++ : k - 1;
        for (; at > 0 && probabilities[c] > best[at - 1].probability; at--) best[at] = best[at - 1];
        best[at] = (struct guess){c, probabilities[c]};
    }
}

static const char *label_name(const bnff_classifier *classifier, int label, char number[16])
{
    const char *name = bnff_classifier_class_name(classifier, label);
    if (name) return name;
    snprintf(number, 16, "%d", label);
    return number;
}

/* A field of RFC 4180: quoted where it must be. */
static void csv_field(FILE *out, const char *text)
{
    if (!text[strcspn(text, ",\"\r\n")]) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static json_t *json_guesses(const bnff_classifier *classifier, const char *file, const struct guess *best, int k)
{
    json_t *list = json_array();
    char number[16];
    for (int i = 0; i < k; i++)
        json_array_append_new(list, json_pack("{s:o, s:i, s:f}", "label", cli_json_string(label_name(classifier, best[i].label, number)), "index",
                                              best[i].label,
                                              "prob", (double)best[i].probability));
    return json_pack("{s:o, s:o}", "filename", cli_json_string(file), "predictions", list);
}

static void print_guesses(FILE *out, int format, const bnff_classifier *classifier, const char *file, const struct guess *best, int k, json_t *document)
{
    char number[16];
    if (format == JSON) {
        json_array_append_new(document, json_guesses(classifier, file, best, k));
    } else if (format == JSONL) {
        json_t *line = json_guesses(classifier, file, best, k);
        json_dumpf(line, out, JSON_COMPACT | JSON_REAL_PRECISION(7));
        fputc('\n', out);
        json_decref(line);
    } else if (format == CSV) {
        for (int i = 0; i < k; i++) {
            csv_field(out, file);
            fputc(',', out);
            csv_field(out, label_name(classifier, best[i].label, number));
            fprintf(out, ",%.6g\n", (double)best[i].probability);
        }
    } else {
        fprintf(out, "%s:", file);
        for (int i = 0; i < k; i++) fprintf(out, "%s %s %.1f %%", i ? "," : "", label_name(classifier, best[i].label, number),
                                            100 * (double)best[i].probability);
        fputc('\n', out);
    }
}

/* -- The command --------------------------------------------------------------------------------------------------- */

static bnff_status classify(bnff_classifier *classifier, const file_list *files, const char *file, float *probabilities, bnff_error *error)
{
    bnff_image image = {0};
    const int channels = bnff_classifier_channels(classifier);
    bnff_status status = !strcmp(file, "-") && files->piped ? bnff_image_decode(files->piped, files->piped_size, "standard input", channels, &image, error)
                                                            : bnff_image_read(file, channels, &image, error);
    if (status == BNFF_OK) status = bnff_classifier_predict(classifier, &image, probabilities, error);
    bnff_image_free(&image);
    return status;
}

/* Predict all; a file that fails is named and the others go on. Returns the number that failed. */
static int predict_all(bnff_classifier *classifier, const file_list *files, const struct arguments *args, FILE *out)
{
    const int classes = bnff_classifier_classes(classifier), k = args->topk < classes ? args->topk : classes;
    float *probabilities = cli_alloc((size_t)classes, sizeof *probabilities);
    struct guess *best = cli_alloc((size_t)k, sizeof *best);
    json_t *document = args->format == JSON ? json_array() : NULL, *failures = args->format == JSON ? json_array() : NULL;
    int failed = 0;
    if (args->format == CSV) fprintf(out, "filename,label,prob\n");
    for (int i = 0; i < files->count; i++) {
        bnff_error error;
        if (classify(classifier, files, files->names[i], probabilities, &error)) {
            failed++;
            cli_fail_text(NULL, "%s", error.message); /* the remedy for every file would drown their names */
            if (failures) json_array_append_new(failures, json_pack("{s:o, s:o}", "filename", cli_json_string(files->names[i]), "error",
                                                                    cli_json_string(error.message)));
            continue;
        }
        best_guesses(probabilities, classes, best, k);
        print_guesses(out, args->format, classifier, files->names[i], best, k, document);
    }
    if (document) {
        json_t *whole = json_pack("{s:o, s:i, s:o, s:o}", "model", cli_json_string(bnff_classifier_model(classifier)), "classes", classes, "images",
                                  document, "failed", failures);
        json_dumpf(whole, out, JSON_INDENT(2) | JSON_REAL_PRECISION(7));
        fputc('\n', out);
        json_decref(whole);
    }
    free(best);
    free(probabilities);
    return failed;
}

static int format_of(const char *output)
{
    const char *dot = output ? strrchr(output, '.') : NULL;
    if (dot && !strcmp(dot, ".json")) return JSON;
    if (dot && !strcmp(dot, ".jsonl")) return JSONL;
    return output && strcmp(output, "-") ? CSV : isatty(STDOUT_FILENO) ? HUMAN : CSV;
}

static int run(const cli_command *self, int argc, char **argv)
{
    struct arguments args = {.classifier = {.size = sizeof args.classifier, .batch = 1}, .format = -1};
    cli_positionals words;
    int code = cli_parse(self, argc, argv, &args, &words);
    if (code < 0) code = cli_expect(self, &words, 2, -1);
    if (code >= 0) return code;
    if (args.format < 0) args.format = format_of(args.output);
    if (!args.topk) args.topk = args.format == CSV ? 1 : 5;

    char *weights = cli_find_weights(words.items[0], args.classifier.model);
    if (!weights) return EXIT_FAILED;
    if (!args.classifier.model) args.classifier.model = cli_recognise(weights);
    bnff_error error;
    bnff_context *context = NULL;
    bnff_classifier *classifier = NULL;
    cli_output output;
    file_list files = {0};
    bnff_status status = cli_context(args.threads, &context, &error);
    if (status == BNFF_OK) status = bnff_classifier_open(context, weights, &args.classifier, &classifier, &error);
    if (status == BNFF_OK && !bnff_classifier_knows_images(classifier))
        cli_warn("%s: it does not say how its images were prepared; they are now as ImageNet's", weights);
    if (status) {
        code = cli_fail(&error);
    } else if ((code = cli_output_open(&output, args.output)) == EXIT_DONE) {
        int failed = 0;
        for (int i = 1; i < words.count; i++) failed += !file_list_add(&files, words.items[i]);
        failed += predict_all(classifier, &files, &args, output.file);
        code = cli_output_close(&output, true);
        if (failed) code = EXIT_FAILED;
    }
    file_list_free(&files);
    bnff_classifier_destroy(&classifier);
    bnff_context_destroy(&context);
    free(weights);
    return code;
}

const cli_command cli_predict = {
    .name = "predict", .usage = "WEIGHTS PATH...|- [options]", .summary = "Say what is on images", .options = options, .run = run,
    .text = "PATH is an image or a folder, which is searched for images; - is standard input: an image, or names of\n"
            "files one a line. A damaged file is named on stderr, the others are still predicted, the exit code is 1.",
    .examples = "  bnff predict runs/train/weights/best.safetensors new/*.jpg\n"
                "  bnff predict best.safetensors photos/ -o labels.csv\n"
                "  find . -name '*.png' | bnff predict best.safetensors - --format jsonl --topk 3\n",
};
