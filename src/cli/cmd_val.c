/* bnff val: accuracy of a trained network on a data set. */
#include "cli.h"

#include <stdlib.h>

#include "network.h"

struct arguments { bnff_classifier_options classifier; int threads; bool json, quiet; };

static bool parse_image_size(void *arguments, const char *text, char *why, size_t size);

#define OPTION(field) offsetof(struct arguments, classifier.field)
static const cli_option options[] = {
    {"model,m", CLI_STRING, OPTION(model), "NAME", "Architecture, where the weights do not name it."},
    {"batch-size,batch,b", CLI_INT, OPTION(batch), "N", "Images at a time (32).", 1, 65536},
    {"img-size,imgsz,val-crop-size", CLI_CUSTOM, 0, "N", "Side of the images. Default: of the weights.", .parse = parse_image_size},
    {"val-resize-size", CLI_INT, OPTION(resize_size), "N", "Shorter side before the centre crop. Default: of the weights.", 1, 8192},
    {"workers,j", CLI_INT, OPTION(workers), "N", "Threads that decode. Default: by the machine.", -1, 1024},
    {"conv", CLI_STRING, OPTION(algorithm), "NAME", CLI_CONV_HELP},
    {"threads,t", CLI_INT, offsetof(struct arguments, threads), "N", CLI_THREADS_HELP, 1, 4096},
    {"json", CLI_FLAG, offsetof(struct arguments, json), NULL, "One JSON document: acc1, acc5 in percent, loss, images, bad, seconds."},
    {"quiet,q", CLI_FLAG, offsetof(struct arguments, quiet), NULL, "The accuracies only."},
    {0},
};

static bool parse_image_size(void *arguments, const char *text, char *why, size_t size)
{
    struct arguments *args = arguments;
    char rest;
    if (sscanf(text, "%d%c", &args->classifier.crop_size, &rest) == 1 && args->classifier.crop_size >= 1 && args->classifier.crop_size <= 4096) return true;
    return snprintf(why, size, "a number of pixels from 1 to 4096"), false;
}

static int print(const bnff_classifier *classifier, const bnff_evaluation *e, const struct arguments *args)
{
    const double speed = e->seconds > 0 ? (double)e->images / e->seconds : 0;
    if (args->json)
        return cli_json_print(json_pack("{s:f, s:f, s:f, s:I, s:I, s:i, s:f, s:f, s:o}", "acc1", e->acc1, "acc5", e->acc5, "loss", e->loss, "images",
                                        (json_int_t)e->images, "bad", (json_int_t)e->bad, "classes", e->classes, "seconds", e->seconds, "images_per_s", speed,
                                        "model", cli_json_string(bnff_classifier_model(classifier))));
    char seconds[32];
    printf("Acc@1 %.3f Acc@5 %.3f loss %.4f\n", e->acc1, e->acc5, e->loss);
    if (!args->quiet) fprintf(stderr, "%lld images in %s, %.0f img/s\n", (long long)e->images, cli_duration(seconds, e->seconds), speed);
    if (e->bad) cli_warn("%lld damaged %s left out; 'bnff data check' names %s", (long long)e->bad, e->bad == 1 ? "file was" : "files were", e->bad == 1 ? "it" : "them");
    return EXIT_DONE;
}

static int run(const cli_command *self, int argc, char **argv)
{
    struct arguments args = {.classifier = {.size = sizeof args.classifier, .workers = -1}};
    cli_positionals words;
    int code = cli_parse(self, argc, argv, &args, &words);
    if (code < 0) code = cli_expect(self, &words, 2, 2);
    if (code >= 0) return code;
    char *weights = cli_find_weights(words.items[0], args.classifier.model);
    if (!weights) return EXIT_FAILED;
    if (!args.classifier.model) args.classifier.model = cli_recognise(weights);
    bnff_error error;
    bnff_context *context = NULL;
    bnff_classifier *classifier = NULL;
    bnff_evaluation evaluation = {0};
    bnff_status status = cli_context(args.threads, &context, &error);
    if (status == BNFF_OK) status = bnff_classifier_open(context, weights, &args.classifier, &classifier, &error);
    if (status == BNFF_OK && !bnff_classifier_knows_images(classifier))
        cli_warn("%s: it does not say how its images were prepared; they are now as 'bnff train %s' would", weights, words.items[1]);
    if (status == BNFF_OK) status = bnff_classifier_evaluate(classifier, words.items[1], &evaluation, &error);
    code = status ? cli_fail(&error) : print(classifier, &evaluation, &args);
    bnff_free(evaluation.confusion);
    bnff_classifier_destroy(&classifier);
    bnff_context_destroy(&context);
    free(weights);
    return code;
}

const cli_command cli_val = {
    .name = "val", .usage = "WEIGHTS DATA [options]", .summary = "Measure the accuracy of a trained model", .options = options, .run = run,
    .text = "DATA is what 'bnff train' takes; its validation split is used, or all of it where it has none.",
    .examples = "  bnff val runs/train/weights/best.safetensors photos/\n"
                "  bnff val runs/demo/weights/best.safetensors fashion-mnist --json\n"
                "  bnff val resnet50-0676ba61.pth imagenet/ --model resnet50\n",
};
