/* A run's folder: its name, its files, its logs.
 *     args.json  results.csv  events.jsonl  confusion_matrix.csv  report.html
 *     weights/last.safetensors  best.safetensors  last.state.safetensors  epochN.safetensors
 */
#ifndef BF_TRAIN_RUN_FOLDER_H
#define BF_TRAIN_RUN_FOLDER_H

#include <stdbool.h>
#include <stdint.h>
#include <bnff/status.h>

#include "base/text.h"

/* Make output_dir/name, or name2, name3, ... where it exists; exist_ok: use it as it is. *folder: free with bf_free. */
bnff_status bf_run_folder_create(const char *output_dir, const char *name, bool exist_ok, char **folder, bnff_error *error);
/* Keep other trainings out of the folder until bf_run_folder_unlock, or the end of the process however it comes. *lock: what to unlock; -1
 * where the file system has no locks, and then nobody is kept out. BNFF_E_STATE: another training has it. */
bnff_status bf_run_folder_lock(const char *folder, int *lock, bnff_error *error);
void bf_run_folder_unlock(int lock);
/* folder/file, on the heap; NULL without memory. */
char *bf_run_path(const char *folder, const char *file);
/* Remove what writes cut short left behind: files named *.tmpXXXXXX in the folder and its weights/. */
void bf_run_folder_sweep(const char *folder);

/* -- Logs: files that only grow, a line a record ------------------------------------------------------------------- */

/* Append whole lines; the file is made if absent. */
bnff_status bf_log_append(const char *folder, const char *file, const char *lines, bnff_error *error);
/* Keep the lines for which keep(user, line) holds, of those that end in a newline; what a crash cut off goes. No file: fine. */
bnff_status bf_log_filter(const char *folder, const char *file, bool (*keep)(void *user, const char *line), void *user, bnff_error *error);

#endif
