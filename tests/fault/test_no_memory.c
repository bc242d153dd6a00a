/* Scripts that wait for no network, with one allocation after the other made to fail. (Those that
 * do are in test_no_memory_net, what hosts do is in test_no_memory_host; unit/test_torture
 * sweeps tasks and waits in one script; libcurl's own allocations are left alone: 7.88 divides by
 * zero without memory.) */
#include "sweep_script.h"

SCENARIO(gather, gather, ON_VIRTUAL_TIME)
SCENARIO(map, map, ON_VIRTUAL_TIME)
SCENARIO(race_and_group, race, ON_VIRTUAL_TIME)
SCENARIO(limits, limits, ON_VIRTUAL_TIME)
SCENARIO(sync, sync, ON_VIRTUAL_TIME)
SCENARIO(merge, merge, ON_VIRTUAL_TIME)
SCENARIO(coroutines, coroutines, ON_VIRTUAL_TIME)
SCENARIO(json, json, ON_VIRTUAL_TIME)
SCENARIO(policies, policies, ON_VIRTUAL_TIME)
SCENARIO(simulate, simulate, ON_VIRTUAL_TIME)
SCENARIO(openai, openai, ON_VIRTUAL_TIME)
SCENARIO(seeing, seeing, ON_VIRTUAL_TIME)
SCENARIO(sandbox, sandbox, .sandbox = true)
SCENARIO(gather_in_a_row, gather, ON_VIRTUAL_TIME, IN_A_ROW)
SCENARIO(limits_in_a_row, limits, ON_VIRTUAL_TIME, IN_A_ROW)
SCENARIO(sync_in_a_row, sync, ON_VIRTUAL_TIME, IN_A_ROW)
SCENARIO(policies_in_a_row, policies, ON_VIRTUAL_TIME, IN_A_ROW)

TEST_MAIN
