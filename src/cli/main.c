/* bnff: the command line. Finds the command, runs it, and makes sure that what it printed arrived. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const cli_command *const commands[] = {
    &cli_train, &cli_val, &cli_predict, &cli_info, &cli_models, &cli_plan, &cli_data, &cli_bench, &cli_doctor, &cli_selftest,
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_commands(FILE *out)
{
    fprintf(out,
            "bnff %s: trains convolutional networks on CPUs\n\n"
            "usage: bnff COMMAND [arguments]\n\ncommands:\n", bnff_version());
    for (int i = 0; i < COMMANDS; i++) fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(out,
            "\nexamples:\n"
            "  bnff train photos/                        a model from a folder of class folders\n"
            "  bnff val runs/train/weights/best.safetensors photos/\n"
            "  bnff predict runs/train/weights/best.safetensors new/*.jpg\n"
            "\nbnff COMMAND --help tells more; data goes to stdout, all else to stderr.\n"
            "exit codes: 0 done, 1 failed, 2 wrong usage, 3 diverged, 130 and 143 stopped by a signal\n");
}

static const cli_command *find(const char *name)
{
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i]->name, name)) return commands[i];
    return NULL;
}

static int unknown(const char *name)
{
    const char *names[COMMANDS];
    for (int i = 0; i < COMMANDS; i++) names[i] = commands[i]->name;
    const char *nearest = cli_nearest(name, names, COMMANDS);
    char hint[128];
    if (nearest) snprintf(hint, sizeof hint, "did you mean 'bnff %s'?", nearest);
    else snprintf(hint, sizeof hint, "bnff --help lists the commands");
    cli_fail_text(hint, "unknown command '%s'", name);
    return EXIT_USAGE;
}

static int run(int argc, char **argv)
{
    if (argc < 2) return print_commands(stderr), EXIT_USAGE;
    const char *name = argv[1];
    if (!strcmp(name, "--version") || !strcmp(name, "-V") || !strcmp(name, "version")) return printf("bnff %s\n", bnff_version()), EXIT_DONE;
    const bool help = !strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h");
    if (help && argc < 3) return print_commands(stdout), EXIT_DONE;
    if (help) name = argv[2];
    const cli_command *command = find(name);
    if (!command) return unknown(name);
    if (help && argc > 3) return command->run(command, 2, (char *[]){argv[3], "--help", NULL}); /* help bench step */
    if (help) return cli_help(command, stdout), EXIT_DONE;
    return command->run(command, argc - 2, argv + 2);
}

/* Before any file is opened: one that took the place of a closed stream would get what is meant for that. It is opened the wrong way
 * round, so that its use still fails. A file that meets its size limit is an error of the write, as a full disk is. */
static void settle(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd) exit(EXIT_FAILED);
    signal(SIGXFSZ, SIG_IGN);
}

int main(int argc, char **argv)
{
    settle();
    int code = run(argc, argv);
    if ((fflush(stdout) || ferror(stdout)) && code == EXIT_DONE) code = cli_fail_text(NULL, "cannot write standard output: %s", strerror(errno));
    return code;
}
