/*
 * Preloaded into the custodian: a disk that is full at a write of the test's choice. FULL_DISK
 * names a file of two numbers of 64 bits, shared with the test: how many writes to the database or
 * its log still succeed (negative: all), and how many fail after them.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct control {
    _Atomic int64_t succeed, fail;
};

static struct control *control(void)
{
    static _Atomic(struct control *) shared;
    struct control *known = atomic_load(&shared);
    const char *path = getenv("FULL_DISK");
    if (known != NULL || path == NULL)
        return known;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return NULL;
    known = mmap(NULL, sizeof *known, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (known == MAP_FAILED)
        return NULL;
    atomic_store(&shared, known);
    return known;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static bool is_of_database(int file)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    return ends_with(path, ".db") || ends_with(path, ".db-wal");
}

static bool is_full(int file)
{
    struct control *now = control();
    if (now == NULL || atomic_load(&now->succeed) < 0 || !is_of_database(file))
        return false;
    if (atomic_load(&now->succeed) > 0) {
        atomic_fetch_sub(&now->succeed, 1);
        return false;
    }
    if (atomic_fetch_sub(&now->fail, 1) > 0) {
        errno = ENOSPC;
        return true;
    }
    atomic_store(&now->succeed, -1);
    return false;
}

typedef ssize_t (*write_function)(int, const void *, size_t, off64_t);

static ssize_t write_at(const char *name, int file, const void *bytes, size_t count, off64_t offset)
{
    void *found = is_full(file) ? NULL : dlsym(RTLD_NEXT, name);
    write_function next;
    memcpy(&next, &found, sizeof next);
    return next != NULL ? next(file, bytes, count, offset) : -1;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset)
{
    return write_at("pwrite", file, bytes, count, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset)
{
    return write_at("pwrite64", file, bytes, count, offset);
}
