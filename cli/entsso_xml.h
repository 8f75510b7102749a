/* Elements of ENTSSO's files. For cli/entsso*.c only. */
#ifndef SSO_CLI_ENTSSO_XML_H
#define SSO_CLI_ENTSSO_XML_H

#include <libxml/tree.h>

#include "cli/entsso.h"

#define ENTSSO_TEXT_BYTES 1024

/* A fault, or a note, at this element. */
void entsso_fault(struct entsso *entsso, const xmlNode *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void entsso_note(struct entsso *entsso, const xmlNode *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* FILE:LINE. A new reference. */
json_t *entsso_place(const struct entsso *entsso, const xmlNode *node);
bool entsso_is(const xmlNode *node, const char *name); /* without regard to case */
/* The next element from `node` on, NULL behind the last. */
const xmlNode *entsso_element(const xmlNode *node);
/* The text of an element without blanks around it; a fault where it has elements in it, or too much
 * text. */
bool entsso_text(struct entsso *entsso, const xmlNode *node, char out[static ENTSSO_TEXT_BYTES]);
/* yes or no, without regard to case. */
bool entsso_yes(struct entsso *entsso, const xmlNode *node, const char *name, const char *value,
                bool *out);
/* A decimal number from minimum to maximum. */
bool entsso_number(struct entsso *entsso, const xmlNode *node, const char *name, const char *value,
                   unsigned long minimum, unsigned long maximum, unsigned long *out);
/* `domain\\name` by the map; a fault where it is not in it. NULL then. */
const char *entsso_translate(struct entsso *entsso, const xmlNode *node, const char *windows);

void entsso_application(struct entsso *entsso, const xmlNode *node); /* entsso_application.c */

#endif
