/* Random networks: every operator in random places, sizes that fit no vector, values with many readers, dead ends. */
#ifndef BNFF_TESTS_RANDOM_NET_H
#define BNFF_TESTS_RANDOM_NET_H

#include "net.h"

/* A network drawn from the running test case's random numbers, and the images it is for. */
net *random_net(net_setup *setup);

#endif
