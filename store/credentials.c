#include "store/credentials.h"

#include <stdlib.h>

void lookup_view_free(struct lookup_view *view)
{
    credential_row_free(&view->row);
    *view = (struct lookup_view){0};
}

void credential_page_free(struct credential_page *page)
{
    for (size_t i = 0; i < page->count; i++)
        credential_row_free(&page->row[i]);
    free(page->row);
    free(page->mapping);
    *page = (struct credential_page){0};
}
