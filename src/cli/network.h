/* A network named on the command line: a model of the zoo, or a weight file that says which one it is. */
#ifndef CLI_NETWORK_H
#define CLI_NETWORK_H

#include "cli.h"

typedef struct cli_network {
    char *model;             /* owned */
    bnff_model_info info;
    int classes, channels, size;
    bnff_graph *graph;
    bnff_weights *weights;   /* of a file, else NULL */
} cli_network;

/* Is this argument a weight file rather than a model's name? */
bool cli_is_weight_file(const char *what);
/* Open a model's name or a weight file. classes, channels, size: 0 takes the file's, else the model's published ones.
 * With a file that does not name a model, model and graph stay NULL. BNFF_OK, or a failure in *error. */
bnff_status cli_network_open(const char *what, int classes, int channels, int size, cli_network *network, bnff_error *error);
void cli_network_close(cli_network *network);
/* The model of a weight file that does not name one, by the shapes of its tensors, with a word about it on stderr; NULL where the file names
 * its model, fits none, or cannot be read (whoever opens it next says why). The name is the zoo's: not to be freed. */
const char *cli_recognise(const char *path);
/* Parameters without buffers. */
int64_t cli_network_params(const bnff_graph *graph);

#endif
