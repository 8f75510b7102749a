/* Shares on their way between the system and its officers: screens, files, and joining. */
#ifndef SSO_CLI_CEREMONY_SHARES_H
#define SSO_CLI_CEREMONY_SHARES_H

#include "common/backup_file.h"
#include "common/share_set.h"

#define SHARES_GIVEN_MAX 32

/* Shares that somebody gave, in locked memory. */
struct share_pile {
    struct slip39_share *share; /* room for SHARES_GIVEN_MAX */
    char (*from)[80];           /* "the file share-1-of-3.txt", for the text of an error */
    size_t count;
};
enum sso_code share_pile_new(struct share_pile *pile, struct sso_error *err)
    __attribute__((warn_unused_result));
void share_pile_free(struct share_pile *pile);

/* --- to the officers --- */

/* What stands on a share besides its words. */
struct share_occasion {
    const char *system_name;
    const struct share_set *set;
};

/* One officer after the other: the screen is cleared, the words are shown, and some are asked for
 * in random places. A share is wiped once its officer is done. */
enum sso_code shares_show(const struct share_occasion *occasion, struct slip39_share *shares,
                          struct sso_error *err) __attribute__((warn_unused_result));
/* SSO_ALREADY_EXISTS, SSO_CONFIG_ERROR: the folder is missing, not writable, or holds files of
 * shares. */
enum sso_code shares_folder_check(const char *folder, struct sso_error *err)
    __attribute__((warn_unused_result));
/* A file of mode 0400 for each share. What was written is gone again after an error. */
enum sso_code shares_write(const char *folder, const struct share_occasion *occasion,
                           struct slip39_share *shares, struct sso_error *err)
    __attribute__((warn_unused_result));
void shares_remove(const char *folder, const struct share_set *set);
/* Only where it is of that set, or empty: no share was written to it yet. */
bool share_file_remove(const char *path, const char *set_id);

/* --- from the officers --- */

bool share_is_member(const struct share_set *set, const struct slip39_share *share);
bool share_is_same(const struct slip39_share *a, const struct slip39_share *b);

/* M shares, typed. A share that is wrong is asked for again. */
enum sso_code shares_ask(const struct share_set *set, struct share_pile *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Every file share-* of the folder. */
enum sso_code shares_read(const char *folder, struct share_pile *out, struct sso_error *err)
    __attribute__((warn_unused_result));
/* Twice where `confirm`. SSO_USAGE: no terminal. */
enum sso_code passphrase_ask(bool confirm, struct secret *out, struct sso_error *err)
    __attribute__((warn_unused_result));

/* Typed, or from `folder` where that is not NULL; checked against the set, and joined. With
 * `among_others` the folder may hold shares of other sets beside enough of this one.
 * SSO_SHARE_REPEATED, SSO_SHARES_OF_DIFFERENT_SETS, SSO_WRONG_SHARES, SSO_TOO_FEW_SHARES. A wrong
 * passphrase is for the caller to notice. */
enum sso_code shares_join(const struct share_set *set, const char *folder, bool among_others,
                          struct secret *out, struct sso_error *err)
    __attribute__((warn_unused_result));

#endif
