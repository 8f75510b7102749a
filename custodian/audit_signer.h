/* Signs the heads of all audit chains once a minute, where they have changed (DESIGN §11). Used by
 * the supervision thread alone. */
#ifndef SSO_CUSTODIAN_AUDIT_SIGNER_H
#define SSO_CUSTODIAN_AUDIT_SIGNER_H

struct custodian;
struct audit_signer;

struct audit_signer *audit_signer_new(void); /* NULL: no memory */
void audit_signer_free(struct audit_signer *signer);

/* Looks whether a minute has passed; raises and clears EVENT_AUDIT_UNSIGNED. Only while the
 * custodian is ready. */
void audit_signer_look(struct audit_signer *signer, struct custodian *custodian);

/* At once: a key that was announced is vouched for as soon as the one before has signed its record,
 * and the token of that one may be switched off. What does not work out now is tried every minute.
 */
void audit_signer_sign_now(struct custodian *custodian);

#endif
