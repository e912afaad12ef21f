#include "folders.h"

#include "base/files.h"

enum { RING = 16, LENGTH = 4096 };

const char *below(const char *folder, const char *name)
{
    static char paths[RING][LENGTH];
    static int next;
    char *path = paths[next++ % RING];
    if (snprintf(path, LENGTH, "%s/%s", folder, name) >= LENGTH) fail_msg("%s/%s: too long", folder, name);
    return path;
}

const char *new_folder(const char *name)
{
    static char folders[RING][LENGTH];
    static int count;
    char unique[128], *folder = folders[count % RING];
    bnff_error error;
    snprintf(unique, sizeof unique, "%s%d", name, count++);
    strcpy(folder, temp_path(unique));
    check_ok(bf_make_folder(folder, &error), &error);
    return folder;
}

void put_file(const char *folder, const char *name, const void *bytes, size_t size)
{
    char parent[LENGTH];
    bnff_error error;
    const char *path = below(folder, name);
    memcpy(parent, path, strlen(path) + 1);
    *strrchr(parent, '/') = '\0';
    check_ok(bf_make_folder(parent, &error), &error);
    write_file(path, bytes, size);
}

void put_image(const char *folder, const char *name, int width, int height, int value)
{
    uint8_t bytes[32 + 64 * 64 * 3];
    size_t size = (size_t)snprintf((char *)bytes, 32, "P6 %d %d 255\n", width, height);
    for (int i = 0; i < width * height; i++) {
        const uint8_t colour[3] = {(uint8_t)value, (uint8_t)(value / 2), (uint8_t)(255 - value)};
        memcpy(bytes + size, colour, 3);
        size += 3;
    }
    put_file(folder, name, bytes, size);
}

void put_class(const char *folder, const char *class_name, int count)
{
    for (int i = 0; i < count; i++) {
        char name[512];
        snprintf(name, sizeof name, "%s/%02d.ppm", class_name, i);
        put_image(folder, name, 4, 4, (i * 7 + class_name[0]) % 256);
    }
}
