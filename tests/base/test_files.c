/* Files: whole or old, never in between; limits and errors that name the place. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/files.h"
#include "base/memory.h"
#include "support.h"

static void check_content(const char *path, const char *want)
{
    void *bytes;
    size_t size;
    bnff_error error;
    check_ok(bf_file_read(path, 1000, &bytes, &size, &error), &error);
    assert_int_equal(size, strlen(want));
    assert_string_equal(bytes, want); /* also: a NUL follows the last byte */
    bf_free(bytes);
}

static int files_in(const char *folder)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int count = -2; /* . and .. */
    while (readdir(dir)) count++;
    closedir(dir);
    return count;
}

static void reads_whole_files(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4095, 4096, 100000};
    FOR_EACH(n, sizes) {
        test_case("size=%zu", n);
        unsigned char *want = guarded_bytes(n);
        for (size_t i = 0; i < n; i++) want[i] = (unsigned char)random_int(0, 255);
        const char *path = temp_path("read");
        write_file(path, want, n);
        void *bytes;
        size_t size;
        bnff_error error;
        check_ok(bf_file_read(path, n, &bytes, &size, &error), &error); /* exactly at the limit */
        assert_int_equal(size, n);
        if (n) assert_memory_equal(bytes, want, n);
        assert_int_equal(((char *)bytes)[n], 0);
        bf_free(bytes);
        check_guards();
        if (!n) continue;
        check_fails(bf_file_read(path, n - 1, &bytes, &size, &error), BNFF_E_FORMAT, &error, path);
        assert_null(bytes);
    }
}

static void refuses_what_is_no_file(void **state)
{
    (void)state;
    void *bytes;
    size_t size;
    bnff_error error;
    check_fails(bf_file_read(temp_path("absent"), 10, &bytes, &size, &error), BNFF_E_IO, &error, "absent");
    check_fails(bf_file_read(temp_path(""), 10, &bytes, &size, &error), BNFF_E_IO, &error, "not a regular file");
    const char *pipe_path = temp_path("pipe");
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    check_fails(bf_file_read(pipe_path, 10, &bytes, &size, &error), BNFF_E_IO, &error, "not a regular file"); /* and does not hang */
    check_fails(bf_file_read("/dev/zero", 10, &bytes, &size, &error), BNFF_E_IO, &error, "not a regular file");
}

static void replaces_at_once(void **state)
{
    (void)state;
    bnff_error error;
    check_ok(bf_make_folder(temp_path("replace"), &error), &error);
    const char *path = temp_path("replace/file");
    check_ok(bf_file_replace(path, "one", 3, &error), &error);
    check_content(path, "one");
    bf_file_writer writer;
    check_ok(bf_file_begin(&writer, path, &error), &error);
    bf_file_write(&writer, "tw", 2);
    check_content(path, "one"); /* nothing of the new file shows before the commit */
    bf_file_write(&writer, "o", 1);
    check_ok(bf_file_commit(&writer), &error);
    check_content(path, "two");
    check_ok(bf_file_begin(&writer, path, &error), &error);
    bf_file_write(&writer, "three", 5);
    bf_file_abort(&writer);
    check_content(path, "two");
    assert_int_equal(files_in(temp_path("replace")), 1);
}

static void a_reader_keeps_the_old_file(void **state)
{
    (void)state;
    bnff_error error;
    const char *path = temp_path("kept");
    check_ok(bf_file_replace(path, "old", 3, &error), &error);
    const int fd = open(path, O_RDONLY);
    check_ok(bf_file_replace(path, "new", 3, &error), &error);
    char text[4] = "";
    assert_int_equal(read(fd, text, 3), 3);
    close(fd);
    assert_string_equal(text, "old");
}

/* A disk that is full: the writer's descriptor is exchanged for /dev/full. */
static void full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    bnff_error error;
    check_ok(bf_make_folder(temp_path("full"), &error), &error);
    const char *path = temp_path("full/file");
    check_ok(bf_file_replace(path, "old", 3, &error), &error);
    bf_file_writer writer;
    check_ok(bf_file_begin(&writer, path, &error), &error);
    const int full = open("/dev/full", O_WRONLY);
    assert_true(full >= 0 && dup2(full, writer.fd) >= 0);
    close(full);
    bf_file_write(&writer, "new", 3);
    bf_file_write(&writer, "more", 4); /* does nothing after the first failure */
    check_fails(bf_file_commit(&writer), BNFF_E_IO, &error, path);
    assert_non_null(strstr(error.message, strerror(ENOSPC)));
    assert_true(error.hint[0] != '\0');
    check_content(path, "old");
    assert_int_equal(files_in(temp_path("full")), 1);
}

static void size_limit_leaves_the_old_file(void **state)
{
    (void)state;
    bnff_error error;
    check_ok(bf_make_folder(temp_path("limit"), &error), &error);
    const char *path = temp_path("limit/file");
    check_ok(bf_file_replace(path, "old", 3, &error), &error);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        static const char big[100000];
        const struct rlimit limit = {4096, 4096};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit)) _exit(2);
        _exit(bf_file_replace(path, big, sizeof big, &error) == BNFF_E_IO && strstr(error.message, path) ? 0 : 1);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    check_content(path, "old");
    assert_int_equal(files_in(temp_path("limit")), 1);
}

static void unwritable_places_are_named(void **state)
{
    (void)state;
    bnff_error error;
    check_fails(bf_file_replace(temp_path("no/such/folder"), "x", 1, &error), BNFF_E_IO, &error, "no/such/folder");
    check_ok(bf_make_folder(temp_path("busy"), &error), &error);
    check_fails(bf_file_replace(temp_path("busy"), "x", 1, &error), BNFF_E_IO, &error, "busy"); /* a folder is in the way */
    assert_int_equal(files_in(temp_path("busy")), 0);
}

static void makes_folders(void **state)
{
    (void)state;
    bnff_error error;
    check_ok(bf_make_folder(temp_path("a/b//c/"), &error), &error);
    check_ok(bf_make_folder(temp_path("a/b/c"), &error), &error);
    assert_true(bf_is_folder(temp_path("a/b/c")));
    assert_false(bf_is_file(temp_path("a/b/c")));
    write_file(temp_path("a/file"), "x", 1);
    assert_true(bf_is_file(temp_path("a/file")));
    check_fails(bf_make_folder(temp_path("a/file"), &error), BNFF_E_IO, &error, "not a folder");
    check_fails(bf_make_folder(temp_path("a/file/b"), &error), BNFF_E_IO, &error, "a/file");
    check_fails(bf_make_folder("", &error), BNFF_E_ARG, &error, NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(reads_whole_files), test(refuses_what_is_no_file), test(replaces_at_once), test(a_reader_keeps_the_old_file),
        test(full_disk_leaves_the_old_file), test(size_limit_leaves_the_old_file), test(unwritable_places_are_named), test(makes_folders),
    };
    return run_all(tests);
}
