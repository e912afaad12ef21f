/* A file of weights is the old one or the whole new one, whatever happens to its writer. */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bnff/weights.h>

#include "support.h"

enum { TENSORS = 20, FLOATS = 4000 };

/* All tensors filled with `version`. */
static bnff_status save_version(const char *path, float version, bnff_error *error)
{
    bnff_weights *weights;
    static float data[FLOATS];
    for (int i = 0; i < FLOATS; i++) data[i] = version;
    bnff_status status = bnff_weights_create(&weights, error);
    for (int i = 0; i < TENSORS && status == BNFF_OK; i++) {
        char name[20];
        snprintf(name, sizeof name, "t%d", i);
        status = bnff_weights_add(weights, &(bnff_weights_entry){name, BNFF_F32, 1, {FLOATS}, FLOATS, data}, error);
    }
    if (status == BNFF_OK) status = bnff_weights_save(weights, path, error);
    bnff_weights_destroy(&weights);
    return status;
}

/* The file is whole and all of one version, which is returned. */
static float version_of(const char *path)
{
    bnff_weights *weights;
    bnff_weights_entry entry;
    bnff_error error;
    float version = 0, first;
    check_ok(bnff_weights_open(path, &weights, &error), &error);
    assert_int_equal(bnff_weights_count(weights), TENSORS);
    for (int i = 0; bnff_weights_get(weights, i, &entry); i++) {
        const unsigned char *last = (const unsigned char *)entry.data + (FLOATS - 1) * sizeof version;
        memcpy(&first, entry.data, sizeof first);
        if (i == 0) version = first;
        check_close(first, version, 0);
        memcpy(&first, last, sizeof first);
        check_close(first, version, 0);
    }
    bnff_weights_destroy(&weights);
    return version;
}

static const char *folder_for(const char *name)
{
    const char *folder = temp_path(name);
    assert_int_equal(mkdir(folder, 0777), 0);
    return folder;
}

static int files_in(const char *folder)
{
    int count = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *item; (item = readdir(dir));) count += item->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* In a child that may write no more than 10 000 bytes a file. */
static void a_full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    for (int killed = 0; killed < 2; killed++) { /* 1: the signal of the limit ends the child in mid-write */
        test_case("killed=%d", killed);
        char path[600];
        const char *folder = folder_for(killed ? "killed" : "full");
        bnff_error error;
        snprintf(path, sizeof path, "%s/w.safetensors", folder);
        check_ok(save_version(path, 1, &error), &error);
        const pid_t child = fork();
        if (child == 0) {
            signal(SIGXFSZ, killed ? SIG_DFL : SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){10000, 10000});
            setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
            const bnff_status status = save_version(path, 2, &error);
            _exit(status == BNFF_E_IO && strstr(error.message, path) ? 7 : 8);
        }
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        if (killed) assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGXFSZ);
        else assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 7);
        check_close(version_of(path), 1, 0);
        if (!killed) assert_int_equal(files_in(folder), 1); /* what was begun is gone */
    }
}

static void a_kill_at_any_moment_leaves_a_whole_file(void **state)
{
    (void)state;
    char path[600];
    bnff_error error;
    snprintf(path, sizeof path, "%s/w.safetensors", folder_for("kill"));
    check_ok(save_version(path, 0, &error), &error);
    for (int round = 0; round < 25; round++) {
        test_case("round=%d", round);
        const pid_t child = fork();
        if (child == 0)
            for (float version = 1;; version++)
                if (save_version(path, version, &error) != BNFF_OK) _exit(1);
        usleep((useconds_t)random_int(0, 20000));
        kill(child, SIGKILL);
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how));
        version_of(path);
    }
}

static void names_the_file_that_cannot_be_written(void **state)
{
    (void)state;
    bnff_error error;
    check_fails(save_version(temp_path("no/such/folder"), 1, &error), BNFF_E_IO, &error, "no/such/folder: cannot create");
    const char *folder = folder_for("taken");
    check_fails(save_version(folder, 1, &error), BNFF_E_IO, &error, "taken");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(a_full_disk_leaves_the_old_file),
        test(a_kill_at_any_moment_leaves_a_whole_file),
        test(names_the_file_that_cannot_be_written),
    };
    return run_all(tests);
}
