#include <stddef.h>

#include "cli/command.h"

#define ROTATE_ARGUMENTS                                                                           \
    "[--generation N | --no-backup] [--token NAME]\n"                                              \
    "              [--rate ROWS_PER_SECOND] [--full-speed] [--reencrypt]\n"                        \
    "              [--verify sample|full] [--without NODE] [--dry-run] [--detach]"

/* Behind a blank line, as the last paragraph of a direct command's help. */
#define DIRECT "\nWorks on HSM and database itself, not through the custodian: start it as root"
#define FOR_ANYBODY ".\nNo role is needed.\n"
#define FOR_ADMINS                                                                                 \
    ".\nThe person at the console (login uid, else SUDO_UID, else the user) must be in a group\n"  \
    "of [roles] sso_admins; root too.\n"

#define BACKING_OPTIONS                                                                            \
    "  --shares M/N    a backup that M of N officers open together: 2 <= M <= N <= 16, or 1/1. "   \
    "Each\n"                                                                                       \
    "                  officer copies a share of words from the screen, alone, and types some "    \
    "of\n"                                                                                         \
    "                  them back\n"                                                                \
    "  --shares-dir DIR  shares as files of mode 0400 in an empty folder instead of the screen\n"  \
    "  --passphrase    the shares want a passphrase besides, asked for twice\n"                    \
    "  --backup FILE   where the backup goes (worthless without the shares); beside it the\n"      \
    "                  transcript of the ceremony, FILE.transcript\n"                              \
    "  --no-backup     the master secret is made in the token, never leaves it, and exists "       \
    "there\n"                                                                                      \
    "                  only: if the token is lost, every credential is lost\n"

const struct command command_table[] = {
    {"init", COMMAND_DIRECT,
     "--shares M/N [--shares-dir DIR] [--passphrase] --backup FILE | --no-backup\n"
     "              [--suite aes256-kw|aes256-gcm]",
     "Makes the system and its first master secret: in the token the master secret, in the "
     "database\n"
     "the policy key under it and the rows that describe both. Refused where the database already\n"
     "has a system.\n"
     "\n" BACKING_OPTIONS
     "  --suite SUITE   how row keys are wrapped: aes256-kw (default) or aes256-gcm\n" DIRECT
         FOR_ANYBODY,
     command_init},
    {"doctor", COMMAND_DIRECT, "[--token NAME]",
     "Checks configuration, host, database and tokens, and names a remedy for each fault. Works\n"
     "before init and while the custodian runs. Exit 3 where a check failed.\n"
     "\n"
     "  --token NAME    only the token of section [hsm NAME]\n" DIRECT FOR_ANYBODY,
     command_doctor},
    {"bench", COMMAND_DIRECT, "[--token NAME]",
     "Measures a token: per suite and number of workers and sessions, how many row keys it "
     "releases\n"
     "and rewraps in a second; raw, and through the workers as the system does it (for the suite "
     "of\n"
     "the active generation; under aes256-gcm nothing is wrapped). Makes session objects only.\n"
     "\n"
     "  --token NAME    the token of section [hsm NAME]\n" DIRECT FOR_ANYBODY,
     command_bench},
    {"status", COMMAND_API, "[--watch]",
     "Shows what the custodian says of itself: health and events, generation, workers, rotation.\n"
     "\n"
     "  --watch         again every two seconds until interrupted\n",
     command_status},
    {"pin reset", COMMAND_DIRECT, "[--token NAME]",
     "Forgets that a PIN was refused and tries once. For when its source has been put right. Asks\n"
     "the custodian. Exit 1 where the PIN is refused again, which is then remembered as before.\n"
     "\n"
     "  --token NAME    the token of section [hsm NAME]; default: [hsm]\n"
     "\nThe caller needs the role sso_admins. Where no custodian answers, works on HSM and state\n"
     "directory itself: start it as root" FOR_ADMINS,
     command_pin_reset},

    {"key list", COMMAND_API, "", "Lists the generations of the master secret.\n",
     command_key_list},
    {"key show", COMMAND_DIRECT, "[N]",
     "Shows a generation and the evidence that its key cannot leave the token. Taken anew from "
     "the\n"
     "token; N defaults to the active generation.\n" DIRECT FOR_ADMINS,
     command_key_show},
    {"key generate", COMMAND_DIRECT,
     "--shares M/N [--passphrase] --backup FILE\n"
     "              | --share-set ID --backup FILE | --no-backup\n"
     "              [--shares-dir DIR] [--token NAME] [--suite aes256-kw|aes256-gcm]",
     "Makes the next generation for a rotation to go to. It is pending; the custodian may run.\n"
     "\n" BACKING_OPTIONS
     "  --share-set ID  M officers of a share set that is there give their shares, and the new\n"
     "                  backup is for it (`sso-hsm key list` names the set of each generation)\n"
     "  --token NAME    in the token of section [hsm NAME]; default: that of the active one\n"
     "  --suite SUITE   default: that of the active generation\n" DIRECT FOR_ADMINS,
     command_key_generate},

    {"key backup-info", COMMAND_DIRECT, "FILE",
     "Shows what a backup file says of itself. Reads the file and nothing else; needs no share "
     "and\n"
     "no role.\n",
     command_key_backup_info},
    {"key restore", COMMAND_DIRECT, "FILE [--shares-dir DIR] [--token NAME] [--destroyed]",
     "Brings a generation's key back into a token from its backup and M shares. Before anything "
     "is\n"
     "changed: the file's MAC, the system, the canary, and rows sampled from the database. Where\n"
     "the token has the key already it says so and does nothing.\n"
     "\n"
     "  --shares-dir DIR  the shares are the files share-* of this folder; else the officers type\n"
     "                  them at the terminal, one after the other\n"
     "  --token NAME    into the token of section [hsm NAME]; default: [hsm]\n"
     "  --destroyed     a generation that was destroyed, for a database of before: an act of its\n"
     "                  own, with a signed statement\n" DIRECT FOR_ADMINS,
     command_key_restore},
    {"key drill", COMMAND_DIRECT, "FILE [--shares-dir DIR]",
     "Proves that a backup and its shares would bring the key back. Does all that restore does, "
     "in\n"
     "session objects that end with it, and records the day; health warns where the active\n"
     "generation was not drilled for keys.drill_interval.\n"
     "\n"
     "  --shares-dir DIR  as for `sso-hsm key restore`\n" DIRECT FOR_ADMINS,
     command_key_drill},

    {"key retire", COMMAND_API, "N",
     "Retires a generation that no row is on: one left by a rotation that was cancelled, or one\n"
     "that was made and is not wanted. A rotation that ends well does it by itself. Also takes\n"
     "back one that is to be destroyed, while its grace lasts.\n",
     command_key_retire},
    {"key destroy", COMMAND_DIRECT, "N [--grace DURATION] [--for-ever] [--token-lost]",
     "Destroys the key of a retired generation in every token that holds it, in two steps: the\n"
     "first begins a grace, saying it again afterwards destroys. Both count under the lock that\n"
     "nothing needs the generation, and write a signed statement. Refused before a `db check\n"
     "--open` found all sound since it was retired, and without a backup that was drilled. Before\n"
     "keys.retired_keep has passed a sentence is to be typed. With keys.dual_control a second\n"
     "administrator says `key confirm`. Ended at any point it goes on when it is said again.\n"
     "\n"
     "  --grace DURATION  between the two steps; default 7d\n"
     "  --for-ever        also without a backup that was drilled\n"
     "  --token-lost      second step: what is found in no token here is written off as "
     "lost\n" DIRECT FOR_ADMINS,
     command_key_destroy},
    {"key confirm", COMMAND_API, "N",
     "Confirms, within ten minutes and as another person, that generation N may be destroyed.\n",
     command_key_confirm},
    {"key reshare", COMMAND_DIRECT,
     "--shares M/N [--shares-dir OLD] [--new-shares-dir NEW] [--passphrase] --backup-dir DIR",
     "New backups of all live generations for new officers. M officers of the old share set open\n"
     "the backups in DIR; new ones, each proven in the token, are written beside them for a new\n"
     "set, and the old files and shares to destroy are named. The keys stay as they are: where an\n"
     "old share may be in wrong hands, rotate to a new generation as well.\n"
     "\n"
     "  --shares M/N    the new set, as for `sso-hsm init`\n"
     "  --shares-dir OLD      the old shares are the files share-* of this folder; else they are\n"
     "                  typed at the terminal\n"
     "  --new-shares-dir NEW  the new shares go to this empty folder; else to the screen\n"
     "  --passphrase    the new shares want a passphrase\n"
     "  --backup-dir DIR      where the backup files are and go\n" DIRECT FOR_ADMINS,
     command_key_reshare},

    {"key mark-compromised", COMMAND_API, "N",
     "Says that the master secret of a generation is known to others. Nothing is wrapped under it\n"
     "any more: where it is the active one, writes are refused until a rotation has made another\n"
     "active. The next rotation renews row keys and ciphertexts of every row that it could open. "
     "A\n"
     "mark stays for ever.\n",
     command_key_mark_compromised},
    {"key exposed", COMMAND_API, "N",
     "Lists whose credentials a compromised generation could open. They must be changed at the\n"
     "systems they open; one that was set anew here is not listed any more. With --json one "
     "object\n"
     "per line.\n",
     command_key_exposed},

    {"rotate", COMMAND_API, ROTATE_ARGUMENTS,
     "Moves every row to a new generation. The service goes on meanwhile. Stays attached and "
     "shows\n"
     "the progress; Ctrl-C detaches and the rotation goes on. With --json one status object per\n"
     "line, the last one is the final status. Exit 3 where rows were quarantined.\n"
     "\n"
     "  --generation N  to this one; default: the only pending one above the active one\n"
     "  --no-backup     to a new one, made now, without a backup\n"
     "  --token NAME    to the token of section [hsm NAME], \"hsm\" for [hsm] itself: the one "
     "made\n"
     "                  now is made there, a pending one must be there. Refused where that is the\n"
     "                  token of the active one\n"
     "  --rate N        at most N rows per second\n"
     "  --full-speed    do not yield to live requests\n"
     "  --reencrypt     new row keys and ciphertexts for every row; done by itself for rows that "
     "a\n"
     "                  compromised generation could open\n"
     "  --verify HOW    sample (default): one row of each batch is opened anew; full: each row\n"
     "  --without NODE  a node that need not open the new generation\n"
     "  --dry-run       read and unwrap everything, change nothing\n"
     "  --detach        return when it has started\n",
     command_rotate_start},
    {"rotate start", COMMAND_API, ROTATE_ARGUMENTS, "As `sso-hsm rotate`: see there.\n",
     command_rotate_start},
    {"rotate status", COMMAND_API, "[--quarantine]",
     "Shows the rotation that runs, or the last one.\n"
     "\n"
     "  --quarantine    also the rows that could not be moved, each with its reason\n",
     command_rotate_status},
    {"rotate pause", COMMAND_API, "", "Stops after the batch at hand; nothing is lost.\n",
     command_rotate_pause},
    {"rotate resume", COMMAND_API, "", "Goes on with a paused or cancelled rotation.\n",
     command_rotate_resume},
    {"rotate cancel", COMMAND_API, "",
     "Ends the job; rows stay where they are and both generations stay readable.\n",
     command_rotate_cancel},
    {"rotate rate", COMMAND_API, "ROWS_PER_SECOND",
     "Caps the rotation that runs, or the last one for when it goes on; 0 lifts the cap.\n",
     command_rotate_rate},
    {"rotate retry-quarantined", COMMAND_API, "", "Tries the quarantined rows once more.\n",
     command_rotate_retry_quarantined},

    {"app create", COMMAND_API,
     "NAME --type individual|group|config --field LABEL[:masked] …\n"
     "              [--admins GROUP] [--users GROUP,…] [--readers GROUP] [--description TEXT] "
     "[--contact TEXT]\n"
     "              [--cache yes|no] [--allow-tickets yes|no] [--validate-tickets yes|no]\n"
     "              [--ticket-lifetime DURATION|default]",
     "Makes an application, disabled (sso-hsm app enable). Name, type and fields never change.\n"
     "\n"
     "  --type TYPE     individual: one credential for each person; group: one for a group;\n"
     "                  config: configuration\n"
     "  --field LABEL   a field of its credentials; :masked hides the value where people type it\n"
     "  --admins GROUP  may change this application, its mappings and credentials\n"
     "  --users G1,G2   may use it: their own credential\n"
     "  --readers GROUP service accounts that read the credentials of all its users\n"
     "  --cache no      every lookup asks the HSM\n"
     "  --allow-tickets yes    its administrators may redeem tickets, where the setting\n"
     "                  tickets.allowed says so too\n"
     "  --validate-tickets no  without naming the sender, where tickets.validate is no too\n"
     "  --ticket-lifetime 5m   1m to 365d, in place of the setting tickets.lifetime (default)\n",
     command_app_create},
    {"app list", COMMAND_API, "", "Lists the applications.\n", command_app_list},
    {"app show", COMMAND_API, "NAME", "Shows one application.\n", command_app_show},
    {"app update", COMMAND_API,
     "NAME [--admins GROUP] [--users GROUP,…] [--readers GROUP]\n"
     "              [--description TEXT] [--contact TEXT] [--cache yes|no] [--allow-tickets "
     "yes|no]\n"
     "              [--validate-tickets yes|no] [--ticket-lifetime DURATION|default]",
     "Changes who may do what, or the texts. An empty value takes away.\n", command_app_update},
    {"app enable", COMMAND_API, "NAME", "Lets credentials of the application be looked up.\n",
     command_app_enable},
    {"app disable", COMMAND_API, "NAME", "Refuses every lookup of the application at once.\n",
     command_app_disable},
    {"app delete", COMMAND_API, "NAME",
     "Deletes the application with all its mappings and credentials.\n", command_app_delete},
    {"app purge", COMMAND_API, "NAME",
     "Deletes all mappings and credentials of an application. The application stays.\n",
     command_app_purge},

    {"cred set", COMMAND_API, "APP PRINCIPAL [--external-user ID] [--stdin]",
     "Sets a credential. Asks for each field without echo, or takes one JSON object from standard\n"
     "input. Values are never taken from the command line, where others could see them.\n"
     "\n"
     "  --external-user ID  the user's name in the other system; default: as it was, else what "
     "the\n"
     "                      mapping says, else PRINCIPAL\n"
     "  --stdin             {\"external_user\":ID,\"fields\":{LABEL:VALUE,…}}, external_user "
     "optional\n",
     command_cred_set},
    {"cred get", COMMAND_API, "APP [PRINCIPAL] [--refresh]",
     "Looks a credential up in the clear; PRINCIPAL's where the caller is a reader of APP, else\n"
     "the caller's own. In the text form control characters are shown as \\xNN; --json has the\n"
     "value as it is.\n"
     "\n"
     "  --refresh       not from the cache\n",
     command_cred_get},
    {"cred list", COMMAND_API, "APP", "Lists the credentials of an application without fields.\n",
     command_cred_list},
    {"cred delete", COMMAND_API, "APP PRINCIPAL", "Deletes a credential.\n", command_cred_delete},
    {"cred import", COMMAND_API, "FILE|-",
     "Sets credentials from JSON lines.\n"
     "Each line is {\"app\",\"principal\",\"external_user\",\"fields\":{…}}.\n"
     "A bad line is named on standard error as `line N: code: detail`, the others go in, exit 3.\n"
     "Of two lines for one principal the later one counts.\n",
     command_cred_import},
    {"cred export", COMMAND_API, "APP",
     "Writes all credentials of an application in the clear. JSON lines by principal, as\n"
     "`cred import` takes them. A row that cannot be read is named on standard error, exit 3.\n",
     command_cred_export},

    {"mapping list", COMMAND_API, "[APP] [--principal PRINCIPAL]",
     "Lists the mappings of an application, or those of one principal over all applications;\n"
     "without either, the caller's own. (E) is enabled, (D) disabled: by the user, or by an\n"
     "administrator, who alone can undo that.\n"
     "\n"
     "  --principal PRINCIPAL  of this one, in the applications that the caller administers\n",
     command_mapping_list},
    {"mapping show", COMMAND_API, "APP PRINCIPAL", "Shows whether PRINCIPAL may use APP.\n",
     command_mapping_show},
    {"mapping enable", COMMAND_API, "APP PRINCIPAL [--external-user ID]",
     "Lets PRINCIPAL's credential be looked up. An administrator may map somebody who has no\n"
     "credential yet.\n"
     "\n"
     "  --external-user ID  for the first credential that is set without one\n",
     command_mapping_enable},
    {"mapping disable", COMMAND_API, "APP PRINCIPAL",
     "Refuses lookups of PRINCIPAL's credential.\n", command_mapping_disable},
    {"mapping delete", COMMAND_API, "APP PRINCIPAL",
     "Deletes the mapping and the credential of PRINCIPAL.\n", command_mapping_delete},

    {"config get", COMMAND_API, "APP [--refresh]",
     "Shows the configuration of an application of type config. Masked properties are left out,\n"
     "by name, where the caller administers the system and is neither administrator, user nor\n"
     "reader of the application.\n"
     "\n"
     "  --refresh       not from the cache\n",
     command_config_get},
    {"config set", COMMAND_API, "APP [LABEL …] [--stdin [--partial]]",
     "Sets the configuration. Asks for each property without echo, or only for those that are\n"
     "named; the others stay. Values are never taken from the command line.\n"
     "\n"
     "  --stdin         one JSON object {LABEL:VALUE,…} from standard input: all properties\n"
     "  --partial       only those that are in it; the others stay\n",
     command_config_set},
    {"config delete", COMMAND_API, "APP", "Deletes the configuration. The application stays.\n",
     command_config_delete},

    {"ticket issue", COMMAND_API, "",
     "Issues a ticket for the caller: for a short time (the setting tickets.lifetime), whoever "
     "has\n"
     "it may have an application's administrator redeem it, once, for the caller's credential.\n"
     "Handle it like a password. Off unless the setting tickets.allowed is yes.\n",
     command_ticket_issue},
    {"ticket redeem", COMMAND_API, "APP [--sender PRINCIPAL]",
     "Redeems a ticket from standard input for its user's credential. The caller administers APP,\n"
     "which must allow tickets (app update --allow-tickets yes).\n"
     "\n"
     "  --sender PRINCIPAL  who sent the message that the ticket came with; refused unless the\n"
     "                      ticket is his. Needed unless the setting tickets.validate and\n"
     "                      --validate-tickets of APP are no, when it was issued too\n",
     command_ticket_redeem},

    {"import-entsso", COMMAND_API, "FILE.xml … [--dry-run] [--map FILE]",
     "Takes over applications, mappings and settings from files of Microsoft Enterprise SSO "
     "(those\n"
     "of ssomanage -createapps, -createmappings and -updatedb), all of them or nothing. Each "
     "element\n"
     "that cannot be taken is named with its line; what has no meaning here is noted and left "
     "out.\n"
     "Field 0, the user's name, is the external user here. Passwords are in none of these files.\n"
     "\n"
     "  --dry-run       everything but the last step\n"
     "  --map FILE      whose the names are here: lines DOMAIN\\NAME = GROUP or PRINCIPAL\n",
     command_import_entsso},

    {"settings show", COMMAND_API, "",
     "Shows the settings in the database, which count for all nodes, and what is proposed.\n",
     command_settings_show},
    {"settings set", COMMAND_API, "NAME=VALUE …",
     "Changes settings, all of them or none. They count within cluster.poll_interval, without a\n"
     "restart. system.enabled=no refuses lookups and writes of credentials at once; the work of\n"
     "administrators goes on. Where keys.dual_control is yes, lowering keys.dual_control,\n"
     "audit.lookups, audit.keep or keys.retired_keep and raising cluster.offline_grace is only\n"
     "proposed, with all that was asked for in the same call (exit 1, confirmation_needed). A\n"
     "proposal is withdrawn by setting the value that is there.\n",
     command_settings_set},
    {"settings confirm", COMMAND_API, "[NAME …]",
     "Confirms what another SSO administrator proposed; default: all that is proposed.\n",
     command_settings_confirm},

    {"audit list", COMMAND_API, "[--node NAME] [--last N | [--after N] [--limit N]]",
     "Lists audit records, oldest first: the first 100, or as many and those that are asked for.\n"
     "\n"
     "  --node NAME     of this node only\n"
     "  --last N        the newest N, up to 1000\n"
     "  --after N       with a number above N\n"
     "  --limit N       at most N (default 100)\n",
     command_audit_list},
    {"audit export", COMMAND_API, "[--node NAME]",
     "Writes all audit records as JSON lines.\n"
     "\n"
     "  --node NAME     of this node only\n",
     command_audit_export},
    {"audit prune", COMMAND_API, "FILE",
     "Takes the records of FILE, which audit export wrote, out of the database: those that are\n"
     "older than the setting audit.keep, up to the last head that the audit key signed. FILE is\n"
     "read whole before, and its chain recomputed. Keep it: the records are nowhere else. From "
     "then\n"
     "on the chain begins after the last record taken away, which audit verify knows.\n",
     command_audit_prune},
    {"audit verify", COMMAND_DIRECT, "[--anchor FILE] [--new-anchor FILE]",
     "Recomputes the audit chain of every node and checks what was signed of it, without an HSM.\n"
     "Compares it with the head that this node keeps in its state directory, and names what was\n"
     "changed, is missing, was reordered or cut off. Changes nothing. Exit 3 where something was\n"
     "found.\n"
     "\n"
     "  --anchor FILE      also with what is known from elsewhere: lines NODE NUMBER HASH or, of\n"
     "                     this node, NUMBER HASH; key FINGERPRINT: only signing keys that are\n"
     "                     named, or announced under a signature of such a one, are believed\n"
     "  --new-anchor FILE  where nothing was found, write heads and keys as they are now: keep "
     "the\n"
     "                     file where who owns the database cannot write\n"
     "\nWorks on the database itself, not through the custodian: start it as root or as [system]\n"
     "user. The person at the console (login uid, else SUDO_UID, else the user) must be in a "
     "group\n"
     "of [roles] sso_admins or auditors; root too.\n",
     command_audit_verify},

    {"db accept-restore", COMMAND_DIRECT, "",
     "Goes on with a database that was put back from a backup and is older than what this node "
     "has\n"
     "seen (database_went_back). Looks into every token; takes up generations that the database\n"
     "does not know; closes those that nothing may be wrapped under any more; takes numbers above\n"
     "all that were ever used. A node without marks of its own takes your word for it. Changes\n"
     "nothing where the database is not older.\n" DIRECT FOR_ADMINS,
     command_db_accept_restore},
    {"db backup", COMMAND_DIRECT, "FILE",
     "Makes a consistent copy of the database while it is in use, and FILE.info beside it: which\n"
     "generations and share sets the copy needs to be opened, signed by the audit key. FILE is an\n"
     "absolute path that is not there yet, in a folder that [system] user can write.\n" DIRECT
         FOR_ADMINS,
     command_db_backup},
    {"db backup-info", COMMAND_DIRECT, "FILE",
     "Shows what a backup of the database needs, and whether file, list and signature fit each\n"
     "other. Reads the two files and nothing else; needs no role.\n",
     command_db_backup_info},
    {"db copy", COMMAND_DIRECT, "URL",
     "Copies everything into the empty database URL (as [database] url has it; its tables are\n"
     "made) and compares every row, all or nothing: from SQLite to PostgreSQL, back, or from a\n"
     "backup to where it is put back. Stop the custodian first; afterwards set [database] url.\n"
     "\nWorks on the database itself: start it as root or as [system] user. The person at the\n"
     "console must be in a group of [roles] sso_admins.\n",
     command_db_copy},
    {"db upgrade", COMMAND_DIRECT, "",
     "Brings an older database to the schema of this version; says so where it is the newest.\n"
     "Stop the custodian first.\n"
     "\nWorks on the database itself: start it as root or as [system] user. The person at the\n"
     "console must be in a group of [roles] sso_admins.\n",
     command_db_upgrade},
    {"db check", COMMAND_DIRECT, "[--open] [--against-audit]",
     "Checks the structure of the database. Exit 3 where something is wrong.\n"
     "\n"
     "  --open          also checks every policy tag, and opens every row and sealed key through\n"
     "                  the token, with all workers; names each that fails and why. The custodian\n"
     "                  may run\n"
     "  --against-audit compares each row with the records of its writes and deletes: names those\n"
     "                  that are older than the audit, missing, deleted, or unknown to it\n" DIRECT
         FOR_ADMINS,
     command_db_check},

    {"node list", COMMAND_API, "",
     "Shows the nodes that have joined: name, address, whether each is approved, and the "
     "fingerprint\n"
     "of its certificate's public key.\n",
     command_node_list},
    {"node join", COMMAND_DIRECT, "",
     "Writes this node ([cluster] node) into the database, with the public key of its certificate\n"
     "([tls] certificate), and shows the fingerprint. It gets nothing before an administrator has\n"
     "approved it. A renewed certificate of the same key needs no new join.\n" DIRECT FOR_ADMINS,
     command_node_join},
    {"node approve", COMMAND_API, "NAME --fingerprint HEX [--apps APP,...] [--release-burst N]",
     "Approves a node that has joined, or changes what it may be given.\n"
     "\n"
     "  --fingerprint HEX  as sso-hsm node join showed it on the node: it is pinned\n"
     "  --apps APP,...     keys of these applications only; without it of all\n"
     "  --release-burst N  row keys in a second; without it as [limits] says\n",
     command_node_approve},
    {"node remove", COMMAND_API, "NAME", "Takes a node out. It counts from its next request.\n",
     command_node_remove},
    {"master show", COMMAND_API, "",
     "Shows which node is the master, and which nodes could become it.\n", command_master_show},
    {"master promote", COMMAND_API, "",
     "Makes the node that is asked the master, where the former master is dead: its lease has "
     "ended.\nRefused while another lives, and where a generation does not open here.\n",
     command_master_promote},
    {"master move", COMMAND_API, "NODE",
     "Moves the mastership from the master, which is asked, to another node that opens all "
     "generations;\nrequests wait a moment and none fails.\n",
     command_master_move},
};
const size_t command_count = sizeof command_table / sizeof command_table[0];
