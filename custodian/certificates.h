/* The files of [tls] in the life of the service: read again on SIGHUP, and events when they expire.
 */
#ifndef SSO_CUSTODIAN_CERTIFICATES_H
#define SSO_CUSTODIAN_CERTIFICATES_H

struct custodian;

/* On the event loop. What cannot be used is an event, and the former files stay in force. */
void certificates_read_again(struct custodian *custodian);
/* Raises and clears the events of expiry as it is now. */
void certificates_watch(struct custodian *custodian);

#endif
