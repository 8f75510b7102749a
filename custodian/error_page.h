/* What evhttp refuses by itself (a request that is no HTTP, a body or header that is too large) it
 * answers with a page of HTML: libevent 2.1 has no call to set another. Here it becomes a problem
 * object like every other refusal. */
#ifndef SSO_CUSTODIAN_ERROR_PAGE_H
#define SSO_CUSTODIAN_ERROR_PAGE_H

#include <event2/buffer.h>

/* To be called when something was added to a connection's output that is not our reply. Nothing
 * happens until the page is complete. */
void error_page_replace(struct evbuffer *output);

#endif
