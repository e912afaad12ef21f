/* The trainer's parts on their own: metrics, defaults, args.json, cards, logs. */
#include <unistd.h>

#include "base/files.h"
#include "base/memory.h"
#include "support.h"
#include "train/card.h"
#include "train/config.h"
#include "train/metrics.h"
#include "train/run_folder.h"

/* -- Metrics ---------------------------------------------------------------------------------------------------------- */

static void accuracy_counts_ranks(void **state)
{
    (void)state;
    test_case("accuracy");
    static const float z[4][6] = {
        {5, 4, 3, 2, 1, 0},              /* label 0: first */
        {5, 4, 3, 2, 1, 0},              /* label 4: fifth */
        {5, 4, 3, 2, 1, 0},              /* label 5: sixth */
        {1, 1, 1, 1, 1, 1},              /* label 1: equal logits rank by index, so second */
    };
    static const int32_t labels[] = {0, 4, 5, 1};
    bf_metrics m = {0};
    bf_metrics_add(&m, &z[0][0], labels, 4, 6, 2.5);
    assert_int_equal(m.top1, 1);
    assert_int_equal(m.top5, 3);
    assert_true(bf_metrics_acc1(&m) == 25 && bf_metrics_acc5(&m) == 75 && bf_metrics_loss(&m) == 2.5);
    static const float few[] = {0, 1, NAN, 3};
    static const int32_t label = 2;
    m = (bf_metrics){0};
    bf_metrics_add(&m, few, &label, 1, 4, NAN);
    assert_int_equal(m.top1 + m.top5, 0); /* a NaN is never right */
    m = (bf_metrics){0};
    assert_true(bf_metrics_acc1(&m) == 0 && bf_metrics_loss(&m) == 0);
}

static void mistakes_keep_the_surest(void **state)
{
    (void)state;
    test_case("mistakes");
    bf_mistake kept[BF_MISTAKES];
    int count = 0;
    for (int i = 0; i < 100; i++) {
        const bf_mistake m = {.index = i, .probability = (float)(i * 37 % 50) / 50}; /* each value twice */
        bf_mistakes_add(kept, &count, &m);
    }
    assert_int_equal(count, BF_MISTAKES);
    for (int i = 0; i < count; i++) {
        assert_true(kept[i].probability == (float)(49 - i / 2) / 50);
        if (i % 2) assert_true(kept[i - 1].index < kept[i].index);
    }
}

static void softmax_survives_large_logits(void **state)
{
    (void)state;
    test_case("softmax");
    static const float z[] = {1e30f, -1e30f, 1e30f};
    float p[3];
    bf_softmax(z, 3, p);
    assert_true(p[0] == 0.5f && p[1] == 0 && p[2] == 0.5f);
}

/* -- Defaults --------------------------------------------------------------------------------------------------------- */

static bf_config resolved(const char *data, const char *model, const bf_data_facts *facts)
{
    bnff_train_options o;
    bnff_train_options_init(&o);
    o.data = data;
    o.model = model;
    bf_config config;
    bnff_error error;
    check_ok(bf_config_copy(&config, &o, &error), &error);
    check_ok(bf_config_check(&config.options, &error), &error);
    check_ok(bf_config_resolve(&config, facts, &error), &error);
    return config;
}

static void defaults_suit_the_data(void **state)
{
    (void)state;
    test_case("photographs");
    bf_config c = resolved("photos", NULL, &(bf_data_facts){.train_images = 1371, .image_size = 240, .threads = 2});
    assert_string_equal(c.options.model, "resnet18");
    assert_int_equal(c.options.train_crop_size, 128);
    assert_int_equal(c.options.val_crop_size, 128);
    assert_int_equal(c.options.val_resize_size, 146);
    assert_int_equal(c.options.batch, 32);
    assert_int_equal(c.options.crop_padding, 0);
    assert_true(c.options.hflip == 0.5 && c.options.schedule.lr > 0);
    bf_config_free(&c);

    test_case("small photographs");
    c = resolved("photos", NULL, &(bf_data_facts){.train_images = 100, .image_size = 70, .threads = 2});
    assert_int_equal(c.options.train_crop_size, 64);
    assert_int_equal(c.options.batch, 16);
    bf_config_free(&c);

    test_case("fashion-mnist");
    c = resolved("fashion-mnist", NULL, &(bf_data_facts){.train_images = 60000, .image_size = 28, .fixed_size = true, .threads = 2});
    assert_string_equal(c.options.model, "densenet-bc-22-12");
    assert_int_equal(c.options.train_crop_size, 28);
    assert_int_equal(c.options.val_resize_size, 28);
    assert_int_equal(c.options.batch, 128);
    assert_int_equal(c.options.crop_padding, 4);
    assert_true(c.options.scale[0] == 1 && c.options.ratio[1] == 1);
    bf_config_free(&c);

    test_case("digits are not mirrored");
    c = resolved("mnist:x", NULL, &(bf_data_facts){.train_images = 60000, .image_size = 28, .fixed_size = true, .threads = 2});
    assert_true(c.options.hflip == 0);
    bf_config_free(&c);

    test_case("fine-tuning");
    c = resolved("photos", "resnet50", &(bf_data_facts){.train_images = 1371, .image_size = 240, .fine_tune = true, .threads = 2});
    assert_int_equal(c.options.train_crop_size, 224);
    assert_int_equal(c.options.val_resize_size, 256);
    assert_true(c.options.schedule.lr == 0.01 && c.options.schedule.kind == BNFF_COSINE);
    bf_config_free(&c);

    test_case("images below the stem");
    bnff_train_options o;
    bnff_train_options_init(&o);
    o.data = "mnist:x";
    o.model = "vgg16_bn";
    bnff_error error;
    check_ok(bf_config_copy(&c, &o, &error), &error);
    check_fails(bf_config_resolve(&c, &(bf_data_facts){.train_images = 10, .image_size = 28, .fixed_size = true, .threads = 1}, &error), BNFF_E_SHAPE, &error,
                "at least");
    bf_config_free(&c);
}

/* -- args.json -------------------------------------------------------------------------------------------------------- */

static void args_come_back(void **state)
{
    (void)state;
    test_case("args");
    bf_config c = resolved("photos \"quoted\" \xC3\xA4", NULL, &(bf_data_facts){.train_images = 500, .image_size = 240, .threads = 3});
    c.options.seed = UINT64_MAX;
    c.options.optimizer.momentum = 0.1f;
    c.options.schedule.lr = 1.0 / 3;
    c.options.ratio[0] = 0.7;
    bf_machine machine = {.cpu = "a \"CPU\"", .isa = "avx2", .threads = 3}, then;
    bf_text one = {0}, two = {0};
    bf_args_write(&one, &c.options, &machine);
    bf_config back;
    bnff_error error;
    check_ok(bf_args_read(one.data, "args.json", &back, &then, &error), &error);
    bf_args_write(&two, &back.options, &then);
    assert_string_equal(one.data, two.data);
    assert_true(back.options.seed == UINT64_MAX && back.options.schedule.lr == 1.0 / 3 && back.options.optimizer.momentum == 0.1f);
    assert_non_null(strstr(one.data, "\"momentum\": 0.1,")); /* not 0.100000001490116 */
    assert_true(bf_args_identity(&c.options) == bf_args_identity(&back.options));
    back.options.max_steps = 5; /* when to stop is no part of what is computed */
    assert_true(bf_args_identity(&c.options) == bf_args_identity(&back.options));
    back.options.batch++;
    assert_true(bf_args_identity(&c.options) != bf_args_identity(&back.options));
    bf_config_free(&back);
    bf_config_free(&c);
    bf_text_free(&one);
    bf_text_free(&two);
}

static void strings_are_copied(void **state)
{
    (void)state;
    test_case("strings");
    char name[] = "mine";
    bnff_train_options o;
    bnff_train_options_init(&o);
    o.data = o.model = o.weights = o.freeze = o.freeze_bn = o.level = o.algorithm = o.eval_metric = o.output_dir = o.name = name;
    bf_config c;
    bnff_error error;
    check_ok(bf_config_copy(&c, &o, &error), &error);
    name[0] = 'f';
    bf_text text = {0};
    bf_args_write(&text, &c.options, &(bf_machine){.cpu = "", .isa = ""});
    assert_null(strstr(text.data, "fine"));
    assert_non_null(strstr(text.data, "\"name\": \"mine\""));
    bf_text_free(&text);
    bf_config_free(&c);
    assert_null(c.options.data);
}

static void decays_have_bounds(void **state)
{
    (void)state;
    bnff_error error;
    bnff_train_options o;
    for (int i = 0; i < 3; i++) {
        static const char *const flags[] = {"--weight-decay inf", "--norm-weight-decay inf", "--bias-weight-decay inf"};
        test_case("%s", flags[i]);
        bnff_train_options_init(&o);
        o.data = "photos";
        *(float *[]){&o.optimizer.weight_decay, &o.optimizer.norm_weight_decay, &o.optimizer.bias_weight_decay}[i] = INFINITY;
        check_fails(bf_config_check(&o, &error), BNFF_E_ARG, &error, flags[i]);
    }
}

static void overrides_are_named(void **state)
{
    (void)state;
    test_case("overrides");
    bf_config c = resolved("photos", NULL, &(bf_data_facts){.train_images = 500, .image_size = 240, .threads = 3});
    bnff_train_options o;
    bnff_train_options_init(&o);
    o.epochs = 77;
    o.workers = 1;
    o.output_dir = "elsewhere"; /* a place: has no say */
    bf_text changes = {0};
    bnff_error error;
    check_ok(bf_args_override(&c, &o, &changes, &error), &error);
    assert_string_equal(changes.data, "--epochs changed from 30 to 77; --workers changed from 3 to 1");
    assert_int_equal(c.options.epochs, 77);
    assert_int_equal(c.options.schedule.epochs, 77);
    assert_string_equal(c.options.output_dir, "runs");
    o.schedule.lr = 3;
    check_fails(bf_args_override(&c, &o, &changes, &error), BNFF_E_ARG, &error, "--lr");
    bf_text_free(&changes);
    bf_config_free(&c);
}

/* -- Cards ------------------------------------------------------------------------------------------------------------ */

static void cards_come_back(void **state)
{
    (void)state;
    test_case("card");
    char *names[] = {"a,b", "\"q\"", "\xC3\xBC"};
    const bf_card card = {.model = "resnet18", .classes = 3, .class_names = names, .channels = 3, .crop_size = 128, .resize_size = 146,
                          .interpolation = BNFF_BICUBIC, .mean = {0.1f, 0.2f, 0.3f}, .std = {0.4f, 0.5f, 1.0f / 3}, .held_out = {0.2, UINT64_MAX, 500}};
    bnff_weights *weights = NULL;
    bnff_error error;
    bf_card back;
    check_ok(bnff_weights_create(&weights, &error), &error);
    check_ok(bf_card_store(&card, weights, &error), &error);
    check_ok(bf_card_read(weights, "file", &back, &error), &error);
    assert_string_equal(back.model, card.model);
    assert_int_equal(back.classes, 3);
    for (int i = 0; i < 3; i++) assert_string_equal(back.class_names[i], names[i]);
    assert_int_equal(back.channels, 3);
    assert_int_equal(back.crop_size, 128);
    assert_int_equal(back.resize_size, 146);
    assert_int_equal(back.interpolation, BNFF_BICUBIC);
    check_same_bits(back.mean, card.mean, 3);
    check_same_bits(back.std, card.std, 3);
    assert_true(back.held_out.ratio == 0.2 && back.held_out.seed == UINT64_MAX && back.held_out.images == 500);
    bf_card_free(&back);
    bnff_weights_destroy(&weights);
}

/* -- Logs ------------------------------------------------------------------------------------------------------------- */

static bool keep_even(void *user, const char *line)
{
    ++*(int *)user;
    return atoi(line) % 2 == 0;
}

static void logs_lose_what_was_cut_off(void **state)
{
    (void)state;
    test_case("logs");
    bnff_error error;
    const char *folder = temp_path("logs");
    check_ok(bf_make_folder(folder, &error), &error);
    int seen = 0;
    check_ok(bf_log_filter(folder, "absent", keep_even, &seen, &error), &error);
    check_ok(bf_log_append(folder, "log", "2\n3\n", &error), &error);
    check_ok(bf_log_append(folder, "log", "4\n6", &error), &error); /* 6: no newline, so a crash came first */
    check_ok(bf_log_filter(folder, "log", keep_even, &seen, &error), &error);
    assert_int_equal(seen, 3);
    void *text;
    size_t size;
    check_ok(bf_file_read(temp_path("logs/log"), 100, &text, &size, &error), &error);
    assert_string_equal(text, "2\n4\n");
    bf_free(text);
    write_file(temp_path("logs/last.safetensors.tmpAb3dE9"), "x", 1);
    write_file(temp_path("logs/my.tmp"), "x", 1);
    bf_run_folder_sweep(folder);
    assert_false(bf_is_file(temp_path("logs/last.safetensors.tmpAb3dE9")));
    assert_true(bf_is_file(temp_path("logs/my.tmp")));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(accuracy_counts_ranks),
        test(mistakes_keep_the_surest),
        test(softmax_survives_large_logits),
        test(defaults_suit_the_data),
        test(args_come_back),
        test(strings_are_copied),
        test(decays_have_bounds),
        test(overrides_are_named),
        test(cards_come_back),
        test(logs_lose_what_was_cut_off),
    };
    return run_all(tests);
}
