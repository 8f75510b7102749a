#include "cli/entsso.h"

#include <errno.h>
#include <fcntl.h>
#include <libxml/parser.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/entsso_xml.h"
#include "cli/line_reader.h"
#include "common/secret.h"

#define FILE_BYTES_MAX ((size_t)8 << 20)

enum sso_code entsso_new(struct entsso *entsso, const struct entsso_map *map, struct sso_error *err)
{
    *entsso = (struct entsso){.map = map,
                              .apps = json_array(),
                              .mappings = json_array(),
                              .app_places = json_array(),
                              .mapping_places = json_array(),
                              .settings = json_object(),
                              .faults = json_array(),
                              .notes = json_array()};
    if (entsso->apps != NULL && entsso->mappings != NULL && entsso->settings != NULL &&
        entsso->app_places != NULL && entsso->mapping_places != NULL && entsso->faults != NULL &&
        entsso->notes != NULL)
        return SSO_OK;
    entsso_free(entsso);
    return sso_fail(err, SSO_NO_MEMORY, "no memory to read files");
}

void entsso_free(struct entsso *entsso)
{
    json_decref(entsso->apps);
    json_decref(entsso->mappings);
    json_decref(entsso->app_places);
    json_decref(entsso->mapping_places);
    json_decref(entsso->settings);
    json_decref(entsso->faults);
    json_decref(entsso->notes);
    *entsso = (struct entsso){0};
}

/* --- mappings --- */

static void read_mapping(struct entsso *entsso, const xmlNode *node)
{
    static const char *const names[] = {"windowsDomain", "windowsUserId", "externalApplication",
                                        "externalUserId"};
    char text[4][ENTSSO_TEXT_BYTES] = {"", "", "", ""}, windows[2 * ENTSSO_TEXT_BYTES];
    if (node->properties != NULL)
        entsso_fault(entsso, node, "has attributes, and should have none");
    for (const xmlNode *child = entsso_element(node->children); child != NULL;
         child = entsso_element(child->next)) {
        size_t i = 0;
        while (i < 4 && !entsso_is(child, names[i]))
            i++;
        if (i == 4)
            entsso_fault(entsso, child, "is not known in a mapping");
        else if (text[i][0] != '\0')
            entsso_fault(entsso, child, "stands in its mapping twice");
        else
            entsso_text(entsso, child, text[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        if (text[i][0] == '\0') {
            entsso_fault(entsso, node, "has no %s", names[i]);
            return;
        }
    }
    snprintf(windows, sizeof windows, "%s\\%s", text[0], text[1]);
    const char *here = entsso_translate(entsso, node, windows);
    if (here == NULL)
        return;
    json_array_append_new(entsso->mappings, json_pack("{s:s,s:s,s:s}", "app", text[2], "principal",
                                                      here, "external_user", text[3]));
    json_array_append_new(entsso->mapping_places, entsso_place(entsso, node));
}

/* --- settings --- */

static void set_minutes(struct entsso *entsso, const xmlNode *node, const char *setting,
                        unsigned long minimum)
{
    char text[ENTSSO_TEXT_BYTES];
    unsigned long minutes;
    if (!entsso_text(entsso, node, text) ||
        !entsso_number(entsso, node, (const char *)node->name, text, minimum, 525600, &minutes))
        return;
    json_object_set_new(entsso->settings, setting, json_sprintf("%lum", minutes));
}

static void read_setting(struct entsso *entsso, const xmlNode *node)
{
    static const struct {
        const char *name, *why;
    } left_out[] = {
        {"ssoAdminAccount", "name the group in [roles] sso_admins of the configuration file"},
        {"ssoAffiliateAdminAccount",
         "name the group in [roles] affiliate_admins of the configuration file"},
        {"secretServer", "the master finds itself: see sso-hsm master show"},
        {"auditDeletedApps", "the audit keeps every record"},
        {"auditDeletedMappings", "the audit keeps every record"},
        {"auditCredentialLookups", "the audit keeps every record"},
    };
    if (entsso_is(node, "ticketTimeout")) {
        set_minutes(entsso, node, "tickets.lifetime", 1);
        return;
    }
    if (entsso_is(node, "credCacheTimeout")) {
        set_minutes(entsso, node, "cache.lease", 0);
        return;
    }
    for (size_t i = 0; i < sizeof left_out / sizeof left_out[0]; i++) {
        if (entsso_is(node, left_out[i].name)) {
            entsso_note(entsso, node, "is left out: %s", left_out[i].why);
            return;
        }
    }
    entsso_fault(entsso, node, "is not known in globalInfo");
}

/* --- the file --- */

static void read_root(struct entsso *entsso, const xmlNode *root)
{
    if (!entsso_is(root, "sso")) {
        entsso_fault(entsso, root, "the root element is not <sso>");
        return;
    }
    for (const xmlNode *node = entsso_element(root->children); node != NULL;
         node = entsso_element(node->next)) {
        if (entsso_is(node, "application"))
            entsso_application(entsso, node);
        else if (entsso_is(node, "mapping"))
            read_mapping(entsso, node);
        else if (!entsso_is(node, "globalInfo"))
            entsso_fault(entsso, node, "is not known here");
        else
            for (const xmlNode *each = entsso_element(node->children); each != NULL;
                 each = entsso_element(each->next))
                read_setting(entsso, each);
    }
}

static void be_quiet(void *context, const char *format, ...)
{
    (void)context;
    (void)format;
}

enum sso_code entsso_read_text(struct entsso *entsso, const char *path, const char *text,
                               size_t count, struct sso_error *err)
{
    entsso->path = path;
    xmlSetGenericErrorFunc(NULL, be_quiet);
    xmlParserCtxt *parser = xmlNewParserCtxt();
    xmlDoc *document = parser == NULL
                           ? NULL
                           : xmlCtxtReadMemory(parser, text, (int)count, NULL, NULL,
                                               XML_PARSE_NONET | XML_PARSE_NOCDATA |
                                                   XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    enum sso_code rc = SSO_OK;
    if (document == NULL)
        rc = sso_fail(err, SSO_BAD_REQUEST, "%s:%d: not well-formed XML", path,
                      parser != NULL ? parser->lastError.line : 0);
    else if (document->intSubset != NULL || document->extSubset != NULL)
        rc = sso_fail(err, SSO_BAD_REQUEST, "%s: has a DOCTYPE, which is refused", path);
    else
        read_root(entsso, xmlDocGetRootElement(document));
    xmlFreeDoc(document);
    xmlFreeParserCtxt(parser);
    return rc;
}

enum sso_code entsso_read(struct entsso *entsso, const char *path, struct sso_error *err)
{
    char *text = NULL;
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return sso_fail_errno(err, SSO_BAD_REQUEST, errno, "%s cannot be read", path);
    enum sso_code rc = read_whole(fd, FILE_BYTES_MAX, &text, &length, err);
    close(fd);
    if (rc != SSO_OK)
        return sso_error_context(err, "%s", path);
    rc = entsso_read_text(entsso, path, text, length, err);
    wiping_free(text);
    return rc;
}
