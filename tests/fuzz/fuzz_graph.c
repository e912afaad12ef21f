/* bnff_graph_parse on any bytes: a graph that it accepts prints, reads back to the same text, and can be planned or is refused. */
#include <stdlib.h>
#include <string.h>

#include <bnff/plan.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void plan_small(const bnff_graph *graph)
{
    static bnff_context *context;
    const bnff_context_options threads = {.size = sizeof threads, .threads = 1};
    if (!context && bnff_context_create(&threads, &context, NULL) != BNFF_OK) return;
    bnff_plan *plan;
    const bnff_plan_options options = {.size = sizeof options, .batch = 1, .height = 5, .width = 4, .mode = BNFF_TRAIN};
    if (bnff_plan_create(context, graph, &options, &plan, NULL) == BNFF_OK) bnff_plan_destroy(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *printed = NULL, *again = NULL;
    bnff_graph *graph = NULL, *second = NULL;
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (bnff_graph_parse(text, &graph, NULL) == BNFF_OK && bnff_graph_print(graph, &printed, NULL) == BNFF_OK) {
        if (bnff_graph_parse(printed, &second, NULL) != BNFF_OK || bnff_graph_print(second, &again, NULL) != BNFF_OK) abort();
        if (strcmp(printed, again)) abort();
        if (size < 4096) plan_small(graph);
    }
    bnff_free(printed);
    bnff_free(again);
    bnff_graph_destroy(&graph);
    bnff_graph_destroy(&second);
    free(text);
    return 0;
}
