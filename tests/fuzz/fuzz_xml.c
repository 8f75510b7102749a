/* Files of another system (cli/entsso.h): whatever stands in them, what comes out is only texts
 * that the API would look at again, or faults that can be shown. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/entsso.h"
#include "common/encode.h"
#include "common/secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    wiping_allocator_install();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char windows[] = "D\\u", here[] = "u";
    struct entsso_name name = {windows, here};
    struct entsso_map map = {&name, 1};
    struct entsso entsso;
    struct sso_error err = {0};
    if (entsso_new(&entsso, &map, &err) != SSO_OK)
        return 0;
    if (entsso_read_text(&entsso, "fuzz.xml", (const char *)data, size, &err) == SSO_OK) {
        size_t i;
        const json_t *each;
        json_array_foreach(entsso.faults, i, each)
        {
            const char *detail = json_string_value(json_object_get(each, "detail"));
            if (detail == NULL || !text_is_clean_utf8(detail, strlen(detail)))
                abort();
        }
    }
    entsso_free(&entsso);
    return 0;
}
