/* Scripts on sockets, and with their network on a thread, with one allocation after the other made
 * to fail. (See test_no_memory.) */
#include "sweep_script.h"

SCENARIO(host_functions, host, ON_SOCKETS)
SCENARIO(pipeline, pipeline, ON_SOCKETS)
SCENARIO(journal, journal, ON_SOCKETS)
SCENARIO(service, service, ON_SOCKETS)
SCENARIO(streams, streams, ON_SOCKETS)
SCENARIO(bodies, bodies, ON_SOCKETS)
SCENARIO(answers, answers, ON_SOCKETS)
SCENARIO(reading, reading, ON_SOCKETS)
SCENARIO(cancels, cancels, ON_SOCKETS)
SCENARIO(serve, serve, ON_SOCKETS)
SCENARIO(service_on_a_thread, service, ON_A_NETWORK_THREAD)
SCENARIO(streams_on_a_thread, streams, ON_A_NETWORK_THREAD)
SCENARIO(bodies_on_a_thread, bodies, ON_A_NETWORK_THREAD)
SCENARIO(cancels_on_a_thread, cancels, ON_A_NETWORK_THREAD)
SCENARIO(bodies_in_a_row, bodies, ON_SOCKETS, IN_A_ROW)
SCENARIO(serve_in_a_row, serve, ON_SOCKETS, IN_A_ROW)

TEST_MAIN
