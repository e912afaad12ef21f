/* Folders read in a fixed order. */
#ifndef BF_LISTING_H
#define BF_LISTING_H

#include <stdbool.h>
#include <stdint.h>
#include <bnff/status.h>

#include "base/text.h"

typedef enum bf_entry_kind { BF_ENTRY_FOLDER, BF_ENTRY_IMAGE, BF_ENTRY_UNSUPPORTED, BF_ENTRY_OTHER } bf_entry_kind;

/* What one folder holds: names without the hidden ones, sorted bytewise. */
typedef struct bf_listing {
    struct bf_entry { size_t name; bf_entry_kind kind; } *entries; /* name: offset into text */
    int count, capacity;
    bf_text text;
} bf_listing;

/* Links are followed; an entry with the name of an image is one even if it leads nowhere, so that its absence is reported. */
bnff_status bf_listing_read(const char *folder, bf_listing *listing, bnff_error *error);
void bf_listing_free(bf_listing *listing);
static inline const char *bf_listing_name(const bf_listing *listing, int i) { return listing->text.data + listing->entries[i].name; }
/* Entries of a kind. */
int bf_listing_count(const bf_listing *listing, bf_entry_kind kind);

/* By its extension, in any case: an image that can be decoded, one that cannot, or something else. */
bf_entry_kind bf_kind_of_name(const char *name);

/* Called for each image and each unsupported one below a folder. */
typedef bnff_status bf_found(void *user, const char *path, bf_entry_kind kind, bnff_error *error);
/* Walk a tree in torchvision's order: folders sorted by their whole path, in each the files sorted by name. Links to folders are followed
 * unless they lead back to a folder above. */
bnff_status bf_walk(const char *folder, bf_found *found, void *user, bnff_error *error);

#endif
