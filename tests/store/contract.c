/* contract KIND: the same tests over each kind of store. */
#include "contract.h"

#include "common/secret.h"
#include "fixture.h"

int main(int argc, char **argv)
{
    wiping_allocator_install();
    if (argc > 1)
        fixture_use(argv[1]);
    return contract_policy_rows() + contract_credentials() + contract_scan() + contract_records() +
           contract_transactions() + contract_lease() + contract_copy();
}
