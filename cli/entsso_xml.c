#include "cli/entsso_xml.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/encode.h"

static void __attribute__((format(printf, 4, 0)))
add(json_t *list, const struct entsso *entsso, const xmlNode *node, const char *format,
    va_list arguments)
{
    char detail[512];
    vsnprintf(detail, sizeof detail, format, arguments);
    if (!text_is_clean_utf8(detail, strlen(detail)))
        snprintf(detail, sizeof detail, "what stands here is not clean text");
    json_array_append_new(list, json_pack("{s:s,s:I,s:s,s:s}", "file", entsso->path, "line",
                                          (json_int_t)(node != NULL ? xmlGetLineNo(node) : 0),
                                          "element", node != NULL ? (const char *)node->name : "",
                                          "detail", detail));
}

void entsso_fault(struct entsso *entsso, const xmlNode *node, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(entsso->faults, entsso, node, format, arguments);
    va_end(arguments);
}

void entsso_note(struct entsso *entsso, const xmlNode *node, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(entsso->notes, entsso, node, format, arguments);
    va_end(arguments);
}

json_t *entsso_place(const struct entsso *entsso, const xmlNode *node)
{
    return json_sprintf("%s:%ld", entsso->path, xmlGetLineNo(node));
}

bool entsso_is(const xmlNode *node, const char *name)
{
    return strcasecmp((const char *)node->name, name) == 0;
}

const xmlNode *entsso_element(const xmlNode *node)
{
    while (node != NULL && node->type != XML_ELEMENT_NODE)
        node = node->next;
    return node;
}

bool entsso_text(struct entsso *entsso, const xmlNode *node, char out[static ENTSSO_TEXT_BYTES])
{
    out[0] = '\0';
    if (entsso_element(node->children) != NULL) {
        entsso_fault(entsso, node, "has elements in it where text is wanted");
        return false;
    }
    xmlChar *content = xmlNodeGetContent(node);
    const char *text = content != NULL ? (const char *)content : "";
    text += strspn(text, " \t\r\n");
    size_t length = strlen(text);
    while (length > 0 && isspace((unsigned char)text[length - 1]))
        length--;
    bool fits = length < ENTSSO_TEXT_BYTES;
    if (fits) {
        memcpy(out, text, length);
        out[length] = '\0';
    } else {
        entsso_fault(entsso, node, "has more than %d bytes of text", ENTSSO_TEXT_BYTES - 1);
    }
    xmlFree(content);
    return fits;
}

bool entsso_yes(struct entsso *entsso, const xmlNode *node, const char *name, const char *value,
                bool *out)
{
    *out = strcasecmp(value, "yes") == 0;
    if (*out || strcasecmp(value, "no") == 0)
        return true;
    entsso_fault(entsso, node, "%s is neither yes nor no", name);
    return false;
}

bool entsso_number(struct entsso *entsso, const xmlNode *node, const char *name, const char *value,
                   unsigned long minimum, unsigned long maximum, unsigned long *out)
{
    size_t digits = strspn(value, "0123456789");
    *out = strtoul(value, NULL, 10);
    if (digits > 0 && digits < 10 && value[digits] == '\0' && *out >= minimum && *out <= maximum)
        return true;
    entsso_fault(entsso, node, "%s is no number from %lu to %lu", name, minimum, maximum);
    return false;
}

const char *entsso_translate(struct entsso *entsso, const xmlNode *node, const char *windows)
{
    const char *here = entsso_map_find(entsso->map, windows);
    if (here == NULL)
        entsso_fault(entsso, node, "%s is not in the map: add a line \"%s = NAME HERE\" (--map)",
                     windows, windows);
    return here;
}
