/* From a run's weights to evaluation and prediction, fine-tuning, freezing. */
#include "runs.h"

#include "train/batch_fit.h"
#include <bnff/weights.h>

static char trained[512], best[600];

static bnff_classifier *open_classifier(bnff_context *context, const char *path)
{
    bnff_classifier *classifier = NULL;
    bnff_error error;
    check_ok(bnff_classifier_open(context, path, NULL, &classifier, &error), &error);
    return classifier;
}

/* The file needs no flags, and gives what the training had measured. */
static void evaluate_gives_what_training_measured(void **state)
{
    (void)state;
    test_case("evaluate");
    bnff_error error;
    bnff_train_options o = tiny_options("trained");
    o.seed = 0; /* the made-up images depend on it, and evaluation takes 0 */
    o.epochs = 1;
    watcher w = {0};
    check_ok(train_tiny(&o, NULL, &w, trained, &error), &error);
    snprintf(best, sizeof best, "%s/weights/best.safetensors", trained);
    bnff_context *context = tiny_context();
    bnff_classifier *classifier = open_classifier(context, best);
    assert_string_equal(bnff_classifier_model(classifier), "densenet-bc-10-4");
    assert_int_equal(bnff_classifier_classes(classifier), 4);
    assert_int_equal(bnff_classifier_channels(classifier), 3);
    assert_non_null(bnff_classifier_class_name(classifier, 3));
    assert_null(bnff_classifier_class_name(classifier, 4));
    bnff_evaluation e;
    check_ok(bnff_classifier_evaluate(classifier, "synthetic:80x16x4", &e, &error), &error);
    assert_true(e.acc1 == w.val_acc1);
    assert_true(e.acc5 == 100);                            /* the best four of four */
    check_close(e.loss, w.val_loss, 1e-6 * w.val_loss);    /* batches of 32 instead of 16: sums in another order */
    int64_t images = 0, right = 0;
    for (int i = 0; i < 16; i++) images += e.confusion[i], right += i % 5 ? 0 : e.confusion[i];
    assert_int_equal(images, e.images);
    check_close(e.acc1, 100.0 * (double)right / (double)images, 1e-9);
    bnff_free(e.confusion);
    bnff_classifier_destroy(&classifier);
    bnff_context_destroy(&context);
}

static void predictions_agree_with_the_evaluation(void **state)
{
    (void)state;
    test_case("predict");
    bnff_error error;
    bnff_context *context = tiny_context();
    bnff_classifier *classifier = open_classifier(context, best);
    bnff_evaluation e;
    check_ok(bnff_classifier_evaluate(classifier, "synthetic:80x16x4", &e, &error), &error);
    const bnff_dataset_options options = {.size = sizeof options};
    bnff_dataset *data = NULL;
    check_ok(bnff_dataset_open("synthetic:80x16x4", BNFF_SPLIT_VAL, &options, &data, &error), &error);
    int64_t confusion[16] = {0};
    for (int64_t i = 0; i < bnff_dataset_size(data); i++) {
        bnff_image image;
        float p[4];
        check_ok(bnff_dataset_image(data, i, &image, &error), &error);
        check_ok(bnff_classifier_predict(classifier, &image, p, &error), &error);
        int top = 0;
        for (int k = 1; k < 4; k++) top = p[k] > p[top] ? k : top;
        check_close((double)p[0] + p[1] + p[2] + p[3], 1, 4 * FLT_EPSILON);
        confusion[4 * bnff_dataset_label(data, i) + top]++;
        bnff_image_free(&image);
    }
    assert_memory_equal(confusion, e.confusion, sizeof confusion);
    bnff_free(e.confusion);
    bnff_dataset_destroy(&data);
    bnff_classifier_destroy(&classifier);
    bnff_context_destroy(&context);
}

/* A bare state dict is evaluated on the images that a training on the data set would see. */
static void bare_weights_see_the_same_images(void **state)
{
    (void)state;
    test_case("bare");
    bnff_error error;
    bnff_context *context = tiny_context();
    bnff_classifier *classifier = open_classifier(context, best), *other = NULL;
    bnff_weights *whole = NULL, *bare = NULL;
    bnff_weights_entry entry;
    check_ok(bnff_weights_open(best, &whole, &error), &error);
    check_ok(bnff_weights_create(&bare, &error), &error);
    for (int i = 0; bnff_weights_get(whole, i, &entry); i++) check_ok(bnff_weights_add(bare, &entry, &error), &error);
    check_ok(bnff_weights_save(bare, temp_path("state.safetensors"), &error), &error);
    const bnff_classifier_options named = {.size = sizeof named, .model = "densenet-bc-10-4", .workers = -1};
    check_ok(bnff_classifier_open(context, temp_path("state.safetensors"), &named, &other, &error), &error);
    assert_true(bnff_classifier_knows_images(classifier) && !bnff_classifier_knows_images(other));
    bnff_evaluation a, b;
    check_ok(bnff_classifier_evaluate(classifier, "synthetic:80x16x4", &a, &error), &error);
    check_ok(bnff_classifier_evaluate(other, "synthetic:80x16x4", &b, &error), &error);
    assert_true(a.loss == b.loss && a.acc1 == b.acc1);
    bnff_free(a.confusion);
    bnff_free(b.confusion);
    bnff_weights_destroy(&whole);
    bnff_weights_destroy(&bare);
    bnff_classifier_destroy(&classifier);
    bnff_classifier_destroy(&other);
    bnff_context_destroy(&context);
}

/* Terabytes are refused before anything is allocated, with a batch that fits. */
static void evaluations_beyond_memory_are_refused(void **state)
{
    (void)state;
    test_case("memory");
    bnff_error error;
    bnff_context *context = tiny_context();
    bf_network network = {0};
    const bnff_plan_options options = {.size = sizeof options};
    check_ok(bf_network_create(context, "densenet-100-24", 10, 3, &options, &network, &error), &error);
    check_fails(bf_memory_check_evaluation(&network, 300, 2, 20000, &error), BNFF_E_MEMORY, &error, "needs");
    assert_non_null(strstr(error.hint, "fits"));
    check_fails(bf_memory_check_evaluation(&network, 300, 2, 1 << 20, &error), BNFF_E_MEMORY, &error, "2e9 pixels");
    check_ok(bf_memory_check_evaluation(&network, 32, 2, 1, &error), &error);
    bf_network_destroy(&network);

    const bnff_classifier_options large = {.size = sizeof large, .batch = 20000, .crop_size = 300, .workers = 1};
    bnff_classifier *classifier = NULL;
    bnff_evaluation e;
    check_ok(bnff_classifier_open(context, best, &large, &classifier, &error), &error);
    if (bf_memory_available() < (size_t)100 << 30) /* its images alone are 80 GiB */
        check_fails(bnff_classifier_evaluate(classifier, "synthetic:100000x16x4", &e, &error), BNFF_E_MEMORY, &error, "evaluating with batch 20000 at 300 pixels needs");
    bnff_classifier_destroy(&classifier);
    bnff_context_destroy(&context);
}

static void foreign_files_and_data_are_refused(void **state)
{
    (void)state;
    test_case("foreign");
    bnff_error error;
    bnff_context *context = tiny_context();
    bnff_classifier *classifier = open_classifier(context, best), *other = NULL;
    bnff_evaluation e;
    check_fails(bnff_classifier_evaluate(classifier, "synthetic:80x16x5", &e, &error), BNFF_E_SHAPE, &error, "class4");
    bnff_weights *bare = NULL;
    const float value = 1;
    const bnff_weights_entry entry = {.name = "classifier.weight", .dtype = BNFF_F32, .rank = 1, .shape = {1}, .elements = 1, .data = &value};
    check_ok(bnff_weights_create(&bare, &error), &error);
    check_ok(bnff_weights_add(bare, &entry, &error), &error);
    check_ok(bnff_weights_save(bare, temp_path("bare.safetensors"), &error), &error);
    check_fails(bnff_classifier_open(context, temp_path("bare.safetensors"), NULL, &other, &error), BNFF_E_ARG, &error, "--model");
    const bnff_classifier_options named = {.size = sizeof named, .model = "densenet-bc-10-4", .workers = -1};
    check_fails(bnff_classifier_open(context, temp_path("bare.safetensors"), &named, &other, &error), BNFF_E_FORMAT, &error, "classifier.weight");
    static const char *const bad[][2] = {{"input_size", "[3, 1e9, 1e9]"}, {"input_size", "[7]"}, {"std", "[0, 1, 1]"}, {"mean", "nonsense"},
                                         {"num_classes", "-4"}, {"label_names", "[1, 2]"}, {"interpolation", "magic"}};
    check_ok(bnff_weights_set_metadata(bare, "mean", "[0, 0, 0]", &error), &error);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        test_case("%s=%s", bad[i][0], bad[i][1]);
        bnff_weights *weights = NULL;
        check_ok(bnff_weights_create(&weights, &error), &error);
        check_ok(bnff_weights_set_metadata(weights, "mean", "[0, 0, 0]", &error), &error);
        check_ok(bnff_weights_set_metadata(weights, "std", "[1, 1, 1]", &error), &error);
        check_ok(bnff_weights_set_metadata(weights, bad[i][0], bad[i][1], &error), &error);
        check_ok(bnff_weights_save(weights, temp_path("bad.safetensors"), &error), &error);
        check_fails(bnff_classifier_open(context, temp_path("bad.safetensors"), &named, &other, &error), BNFF_E_FORMAT, &error, bad[i][0]);
        bnff_weights_destroy(&weights);
    }
    bnff_weights_destroy(&bare);
    bnff_classifier_destroy(&classifier);
    bnff_context_destroy(&context);
}

/* -- Fine-tuning ------------------------------------------------------------------------------------------------------ */

static bnff_weights *open_weights(const char *folder, const char *file)
{
    char path[700];
    snprintf(path, sizeof path, "%s/weights/%s", folder, file);
    bnff_weights *weights = NULL;
    bnff_error error;
    check_ok(bnff_weights_open(path, &weights, &error), &error);
    return weights;
}

/* How many parameters (or buffers) differ between two files. */
static int changed(const bnff_weights *a, const bnff_weights *b, const char *containing, bool buffers)
{
    int differ = 0;
    bnff_weights_entry x, y;
    for (int i = 0; bnff_weights_get(a, i, &x); i++) {
        const bool buffer = strstr(x.name, "running") || strstr(x.name, "num_batches");
        if (buffer != buffers || !strstr(x.name, containing)) continue;
        assert_true(bnff_weights_get(b, bnff_weights_find(b, x.name), &y));
        differ += x.elements != y.elements || memcmp(x.data, y.data, (size_t)x.elements * 4) != 0;
    }
    return differ;
}

static void frozen_parts_stay(void **state)
{
    (void)state;
    bnff_weights *before = open_weights(trained, "best.safetensors");
    static const struct { const char *freeze, *bn, *moves, *stays; bool statistics_move; } cases[] = {
        {"backbone", NULL, "classifier", "features", true},
        {"backbone", "stats", "classifier", "features", false},
        {"2", NULL, "denseblock2", "denseblock1", true},
        {"denseblock[12]", NULL, "denseblock3", "denseblock1", true},
        {NULL, "all", "classifier", "norm", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("freeze=%s bn=%s", cases[i].freeze ? cases[i].freeze : "-", cases[i].bn ? cases[i].bn : "-");
        bnff_error error;
        char folder[512];
        bnff_train_options o = tiny_options("frozen");
        o.weights = best;
        o.model = NULL; /* the file says which */
        o.freeze = cases[i].freeze;
        o.freeze_bn = cases[i].bn;
        o.epochs = 1;
        watcher w = {0};
        check_ok(train_tiny(&o, NULL, &w, folder, &error), &error);
        assert_non_null(strstr(w.text, "frozen"));
        assert_non_null(strstr(w.text, "lr 0.01, cosine"));
        bnff_weights *after = open_weights(folder, "last.safetensors");
        assert_int_equal(changed(before, after, cases[i].stays, false), 0);
        assert_true(changed(before, after, cases[i].moves, false) > 0);
        assert_true((changed(before, after, "", true) > 0) == cases[i].statistics_move);
        bnff_weights_destroy(&after);
    }
    bnff_weights_destroy(&before);
}

/* The freeze ends with an epoch, for a run resumed after it too. */
static void frozen_parts_thaw(void **state)
{
    (void)state;
    test_case("thaw");
    bnff_error error;
    char one[512], two[512];
    bnff_train_options o = tiny_options("thawed");
    o.weights = best;
    o.model = NULL;
    o.freeze = "backbone";
    o.freeze_epochs = 1;
    o.save_period = 1;
    check_ok(train_tiny(&o, NULL, NULL, one, &error), &error);
    bnff_weights *before = open_weights(trained, "best.safetensors"), *first = open_weights(one, "epoch1.safetensors"),
                 *second = open_weights(one, "epoch2.safetensors");
    assert_int_equal(changed(before, first, "features", false), 0);
    assert_true(changed(first, second, "features", false) > 0);
    bnff_weights_destroy(&before);
    bnff_weights_destroy(&first);
    bnff_weights_destroy(&second);
    watcher w = {.stop_at = 7};
    check_fails(train_tiny(&o, NULL, &w, two, &error), BNFF_E_INTERRUPTED, &error, NULL);
    check_ok(train_tiny(NULL, two, NULL, NULL, &error), &error);
    check_same_run(one, two);
}

static void another_number_of_classes_replaces_the_head(void **state)
{
    (void)state;
    test_case("head");
    bnff_error error;
    bnff_train_options o = tiny_options("head");
    o.data = "synthetic:60x16x3";
    o.weights = best;
    o.model = NULL;
    o.epochs = 1;
    watcher w = {0};
    check_ok(train_tiny(&o, NULL, &w, NULL, &error), &error);
    assert_non_null(strstr(w.text, "head classifier replaced, 4 classes there and 3 here"));
    o.model = "resnet20";
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_SHAPE, &error, best);
    assert_non_null(strstr(error.message, "layer1.0.conv1.weight")); /* the lists are told, not only counted */
}

/* With running statistics no image sees another: the gradient of 16 images is the mean of the gradients of 8 and 8. */
static void accumulation_is_a_larger_batch(void **state)
{
    (void)state;
    test_case("accumulation");
    bnff_error error;
    char one[512], two[512];
    bnff_train_options o = tiny_options("batch16");
    o.weights = best;
    o.model = NULL;
    o.freeze_bn = "stats";
    o.data = "synthetic:24x16x4"; /* the second step has 8 images: one micro-batch of the two */
    o.epochs = 1;
    check_ok(train_tiny(&o, NULL, NULL, one, &error), &error);
    o.name = "batch8x2";
    o.batch = 8;
    o.grad_accum_steps = 2;
    check_ok(train_tiny(&o, NULL, NULL, two, &error), &error);
    bnff_weights *a = open_weights(one, "last.safetensors"), *b = open_weights(two, "last.safetensors");
    bnff_weights_entry x, y;
    for (int i = 0; bnff_weights_get(a, i, &x); i++) {
        if (x.dtype != BNFF_F32) continue;
        assert_true(bnff_weights_get(b, bnff_weights_find(b, x.name), &y));
        /* A weight gradient sums 16 images of at most 256 pixels: 4096 terms. Their sum in another order moves it by at most
         * 4096 eps of the sum of magnitudes, below 1 here (the loss gradients of a batch sum to less than 2, activations are near 1);
         * two steps of learning rate .01, Nesterov 1.9. */
        for (int64_t k = 0; k < x.elements; k++) {
            float p, q;
            memcpy(&p, (const char *)x.data + 4 * k, 4);
            memcpy(&q, (const char *)y.data + 4 * k, 4);
            check_close(p, q, 2 * 0.01 * 1.9 * 4096 * FLT_EPSILON + FLT_EPSILON * fabs(q));
        }
    }
    bnff_weights_destroy(&a);
    bnff_weights_destroy(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(evaluate_gives_what_training_measured),
        test(predictions_agree_with_the_evaluation),
        test(bare_weights_see_the_same_images),
        test(evaluations_beyond_memory_are_refused),
        test(foreign_files_and_data_are_refused),
        test(frozen_parts_stay),
        test(frozen_parts_thaw),
        test(another_number_of_classes_replaces_the_head),
        test(accumulation_is_a_larger_batch),
    };
    return run_all(tests);
}
