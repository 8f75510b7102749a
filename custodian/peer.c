#include "custodian/peer.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/encode.h"
#include "common/log.h"
#include "common/privileges.h"

#define REMEMBERED_PEERS 256
#define REMEMBERED_GROUPS 64
#define REMEMBERED_MS 5000

/* What the system's user database said of a peer, for a few seconds. The group names are owned. */
struct remembered {
    bool used;
    int64_t until_ms;
    struct person person;
    struct peer peer;
    size_t group_count;
    struct {
        char *name;
        bool member;
    } group[REMEMBERED_GROUPS];
};

struct principal_line {
    char peer[257];
    char principal[PRINCIPAL_BYTES_MAX + 1];
};

struct peer_directory {
    const struct config *config;
    struct principal_line *line;
    size_t line_count;
    pthread_mutex_t lock;
    struct remembered remembered[REMEMBERED_PEERS]; /* slot: uid modulo their number */
};

/* Cuts blanks at both ends, in place. */
static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\r\n", text[length - 1]) != NULL)
        text[--length] = '\0';
    return text;
}

static enum sso_code add_principal_line(struct peer_directory *directory, char *text,
                                        unsigned number, struct sso_error *err)
{
    const char *file = directory->config->roles.principal_map;
    char *entry = trim(text);
    if (entry[0] == '\0' || entry[0] == '#' || entry[0] == ';')
        return SSO_OK;
    char *equals = strchr(entry, '=');
    if (equals == NULL)
        return sso_fail(err, SSO_CONFIG_ERROR, "%s:%u: expected PEER = PRINCIPAL", file, number);
    *equals = '\0';
    const char *peer = trim(entry), *principal = trim(equals + 1);
    size_t peer_bytes = strlen(peer), principal_bytes = strlen(principal);
    if (peer_bytes == 0 || peer_bytes > 256 || principal_bytes == 0 ||
        principal_bytes > PRINCIPAL_BYTES_MAX || !text_is_clean_utf8(peer, peer_bytes) ||
        !text_is_clean_utf8(principal, principal_bytes))
        return sso_fail(err, SSO_CONFIG_ERROR,
                        "%s:%u: expected PEER = PRINCIPAL, each 1 to 256 bytes of UTF-8", file,
                        number);
    struct principal_line *lines =
        realloc(directory->line, (directory->line_count + 1) * sizeof *lines);
    if (lines == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for %s", file);
    directory->line = lines;
    struct principal_line *line = &lines[directory->line_count++];
    snprintf(line->peer, sizeof line->peer, "%s", peer);
    snprintf(line->principal, sizeof line->principal, "%s", principal);
    return SSO_OK;
}

static enum sso_code read_principal_map(struct peer_directory *directory, struct sso_error *err)
{
    const char *path = directory->config->roles.principal_map;
    if (path == NULL || path[0] == '\0')
        return SSO_OK;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return sso_fail_errno(err, SSO_CONFIG_ERROR, errno,
                              "[roles] principal_map: %s cannot be read", path);
    enum sso_code rc = SSO_OK;
    char *text = NULL;
    size_t size = 0;
    for (unsigned number = 1; rc == SSO_OK && getline(&text, &size, file) >= 0; number++)
        rc = add_principal_line(directory, text, number, err);
    free(text);
    fclose(file);
    return rc;
}

static void warn_of_missing_groups(const struct config_list *groups, const char *key)
{
    for (size_t i = 0; i < groups->count; i++) {
        char buffer[65536];
        struct group entry, *found = NULL;
        if (san_is_pattern(groups->item[i]) || groups->item[i][0] == '\0')
            continue;
        if (getgrnam_r(groups->item[i], &entry, buffer, sizeof buffer, &found) == 0 &&
            found == NULL)
            log_line(LOG_LEVEL_WARNING, "a group of the configuration does not exist", "key", key,
                     "group", groups->item[i], NULL);
    }
}

enum sso_code peer_directory_new(const struct config *config, struct peer_directory **out,
                                 struct sso_error *err)
{
    struct peer_directory *directory = calloc(1, sizeof *directory);
    if (directory == NULL)
        return sso_fail(err, SSO_NO_MEMORY, "no memory for the directory of peers");
    directory->config = config;
    pthread_mutex_init(&directory->lock, NULL);
    enum sso_code rc = read_principal_map(directory, err);
    if (rc != SSO_OK) {
        peer_directory_free(&directory);
        return rc;
    }
    warn_of_missing_groups(&config->roles.sso_admins, "[roles] sso_admins");
    warn_of_missing_groups(&config->roles.affiliate_admins, "[roles] affiliate_admins");
    warn_of_missing_groups(&config->roles.auditors, "[roles] auditors");
    warn_of_missing_groups(&config->roles.nodes, "[roles] nodes");
    *out = directory;
    return SSO_OK;
}

static void forget_groups(struct remembered *entry)
{
    for (size_t i = 0; i < entry->group_count; i++)
        free(entry->group[i].name);
    entry->group_count = 0;
}

void peer_directory_free(struct peer_directory **directory)
{
    if (*directory == NULL)
        return;
    for (size_t i = 0; i < REMEMBERED_PEERS; i++)
        forget_groups(&(*directory)->remembered[i]);
    pthread_mutex_destroy(&(*directory)->lock);
    free((*directory)->line);
    free(*directory);
    *directory = NULL;
}

/* With the lock held. NULL where nothing is remembered of this uid any more. */
static struct remembered *recall(struct peer_directory *directory, uid_t uid)
{
    struct remembered *entry = &directory->remembered[uid % REMEMBERED_PEERS];
    if (!entry->used || entry->peer.uid != uid || boot_clock_ms() >= entry->until_ms)
        return NULL;
    return entry;
}

/* `person` is NULL where a certificate says who it is. */
static bool in_any(const struct identity *identity, const struct person *person,
                   const struct config_list *groups)
{
    for (size_t i = 0; i < groups->count; i++) {
        const char *group = groups->item[i];
        if (san_is_pattern(group) ? identity_matches(identity, group)
                                  : person != NULL && person_in_group(person, group))
            return true;
    }
    return false;
}

static unsigned roles_of(const struct peer_directory *directory, const struct identity *identity,
                         const struct person *person)
{
    const struct config *config = directory->config;
    const struct {
        enum role role;
        const struct config_list *groups;
    } given[] = {
        {ROLE_SSO_ADMIN, &config->roles.sso_admins},
        {ROLE_AFFILIATE_ADMIN, &config->roles.affiliate_admins},
        {ROLE_AUDITOR, &config->roles.auditors},
        {ROLE_NODE, &config->roles.nodes},
    };
    unsigned roles = 0;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        if (in_any(identity, person, given[i].groups))
            roles |= given[i].role;
    }
    return roles;
}

static void set_principal(const struct peer_directory *directory, struct peer *peer)
{
    snprintf(peer->principal, sizeof peer->principal, "%s", peer->name);
    for (size_t i = 0; i < directory->line_count; i++) {
        const struct principal_line *line = &directory->line[i];
        if (strcmp(line->peer, peer->name) == 0) {
            memcpy(peer->principal, line->principal, sizeof peer->principal);
            return;
        }
    }
}

/* Asks the system's user database: no lock is held. */
static void ask(const struct peer_directory *directory, const struct identity *identity,
                struct person *person, struct peer *out)
{
    uid_t uid = identity->uid;
    *out = (struct peer){.uid = uid, .how = "unix"};
    if (person_by_uid(uid, person, NULL) != SSO_OK) {
        *person = (struct person){.uid = uid};
        snprintf(out->name, sizeof out->name, "%lu", (unsigned long)uid);
        set_principal(directory, out);
        return;
    }
    memcpy(out->name, person->name, sizeof out->name);
    set_principal(directory, out);
    out->roles = roles_of(directory, identity, person);
}

static void resolve_certificate(const struct peer_directory *directory,
                                const struct identity *identity, struct peer *out)
{
    *out = (struct peer){.identity = identity, .uid = NO_UID, .how = "tls"};
    snprintf(out->name, sizeof out->name, "%s", identity->name[0]);
    set_principal(directory, out);
    out->roles = roles_of(directory, identity, NULL);
}

void peer_resolve(struct peer_directory *directory, const struct identity *identity,
                  struct peer *out)
{
    uid_t uid = identity->uid;
    if (uid == NO_UID) {
        resolve_certificate(directory, identity, out);
        return;
    }
    pthread_mutex_lock(&directory->lock);
    struct remembered *entry = recall(directory, uid);
    if (entry != NULL)
        *out = entry->peer;
    pthread_mutex_unlock(&directory->lock);
    out->identity = identity;
    if (entry != NULL)
        return;

    struct person person;
    ask(directory, identity, &person, out);
    pthread_mutex_lock(&directory->lock);
    entry = &directory->remembered[uid % REMEMBERED_PEERS];
    forget_groups(entry);
    entry->used = true;
    entry->until_ms = boot_clock_ms() + REMEMBERED_MS;
    entry->person = person;
    entry->peer = *out;
    pthread_mutex_unlock(&directory->lock);
    out->identity = identity;
}

/* 1, 0, or -1 where it must be asked; then `person` is whom to ask for. */
static int recall_group(struct peer_directory *directory, uid_t uid, const char *group,
                        struct person *person)
{
    int answer = -1;
    pthread_mutex_lock(&directory->lock);
    struct remembered *entry = recall(directory, uid);
    if (entry != NULL)
        *person = entry->person;
    for (size_t i = 0; entry != NULL && i < entry->group_count; i++) {
        if (strcmp(entry->group[i].name, group) == 0)
            answer = entry->group[i].member;
    }
    pthread_mutex_unlock(&directory->lock);
    return answer;
}

static void remember_group(struct peer_directory *directory, uid_t uid, const char *group,
                           bool member)
{
    char *name = strdup(group);
    pthread_mutex_lock(&directory->lock);
    struct remembered *entry = recall(directory, uid);
    if (name != NULL && entry != NULL && entry->group_count < REMEMBERED_GROUPS) {
        entry->group[entry->group_count].name = name;
        entry->group[entry->group_count++].member = member;
        name = NULL;
    }
    pthread_mutex_unlock(&directory->lock);
    free(name);
}

static bool is_member(struct peer_directory *directory, const struct peer *peer, const char *group)
{
    if (san_is_pattern(group))
        return identity_matches(peer->identity, group);
    if (group[0] == '\0' || peer->uid == NO_UID)
        return false;
    struct person person = {.uid = peer->uid};
    int answer = recall_group(directory, peer->uid, group, &person);
    if (answer >= 0)
        return answer;
    if (person.name[0] == '\0' && person_by_uid(peer->uid, &person, NULL) != SSO_OK)
        return false;
    bool member = person_in_group(&person, group);
    remember_group(directory, peer->uid, group, member);
    return member;
}

const char *peer_first_group(struct peer_directory *directory, const struct peer *peer,
                             const struct application *application)
{
    for (size_t i = 0; i < application->user_group_count; i++) {
        if (is_member(directory, peer, application->users[i]))
            return application->users[i];
    }
    return NULL;
}

unsigned peer_application_roles(struct peer_directory *directory, const struct peer *peer,
                                const struct application *application)
{
    unsigned roles = 0;
    if (is_member(directory, peer, application->admins))
        roles |= ROLE_APP_ADMIN;
    if (peer_first_group(directory, peer, application) != NULL)
        roles |= ROLE_APP_USER;
    if (is_member(directory, peer, application->readers))
        roles |= ROLE_READER;
    return roles;
}
