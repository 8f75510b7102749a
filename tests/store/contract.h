/* The groups of tests that every back end passes. */
#ifndef SSO_TESTS_STORE_CONTRACT_H
#define SSO_TESTS_STORE_CONTRACT_H

int contract_policy_rows(void);
int contract_credentials(void);
int contract_scan(void);
int contract_records(void);
int contract_transactions(void);
int contract_copy(void);
int contract_lease(void);

#endif
