// Package testcluster is where peer is tested as a whole: a simulated network,
// a Redis that can be stalled and killed, and worlds in which a scenario
// written once runs in virtual time, over loopback, and as real binaries.
//
// It is imported by tests only.
//
// The simulated network ([Net], [Host]) carries datagrams and streams between
// hosts in memory, with latency, loss, one-way cuts, refusals, and hosts that
// crash, lose power or are stopped. It opens no socket, starts no goroutine
// that outlives its work, and blocks only on condition variables, channels and
// timers, so that inside a [testing/synctest] bubble its time is the bubble's.
//
// What it does not simulate: the cost of a processor, congestion, fragments,
// and a stopped process's timers ([Host.Pause] holds all that a process reads
// and sends, but its timers go on).
//
// # Faults
//
// What peer survives, and the test that shows it: in virtual time (V), over
// loopback (L), in network namespaces with real binaries (P). Run one with
// go test -run NAME -v and its package; figures are printed. Those of the locks
// stand in package lockclient.
//
//	kill -9; three of ten at once           V L P, V TestKilledPeerIsNeverHandedOutAgain, TestThreeOfTenKilledInOneInstant
//	power off, cable cut                    V P    TestSilentPeer
//	SIGSTOP for 2, 4.5 and 30 s             V P    TestStoppedPeerComesBack, TestStoppedProcessComesBack
//	graceful leave                          V L P  TestGracefulLeave
//	one joins 8, 32, 128; 100 join at once  V      TestOneJoinsManySeeIt, TestManyJoinAtOnce
//	8, 32, 128 (512, 1,000) members         V      TestScale in package cluster
//	halves cut, for up to a day             V P    TestHealedPartition, TestHealedCut
//	full outage, a third moved; staggered   V L, V TestFullRestartWithoutSeeds, TestFullRestartStaggered
//	seeds down at the start; for long        V L, V TestSeedsDownAtTheStart, TestSeedsDownForLong
//	same name elsewhere; one name twice     V      TestSameNameOnANewAddress, TestTwoLivePeersWithOneName
//	three of one name                       V L    TestThreeOfOneName
//	a seed name that stands for all         V P    TestSeedNameStandsForAll
//	two clusters grown apart                V P    TestGrownApart
//	all leave at once                       V L P  TestAllLeaveAtOnce
//	address changed; start before it        P, P   TestAddressChangesWhileRunning, TestStartBeforeTheAddress
//	an interface down for 20 s              P      TestInterfaceDown
//	an advertised address nobody reaches    V P    TestAdvertisedAddressNobodyReaches
//	80 % lost one way, deaf, mute, by turns V P    TestHalfBrokenMember
//	one-way drop between a pair             V P    TestOneWayDrop
//	10 % and 20 % loss among 32, 10 min     V      TestLossyNetwork
//	streams cut by force, again and again   V      TestStreamsCut
//	a rejecting firewall between a pair     V      TestRejectingFirewallBetweenAPair
//	a quarter of the nodes slow             V      TestSlowQuarter
//	UDP blocked, TCP open                   V P    TestUDPBlocked
//	rolling restart                         V      TestRollingRestart
//	wrong or missing gossip key             V L    TestGossipKeys
//	key rotation, one absent, under load    V L    TestRotate… in package cluster
//	garbage, forgeries, greedy streams      V L    TestForgedAndGarbage; TestGarbage, TestGreedyStreams in package cluster
//	Redis down, stalled, cut, restarted     V L    TestRedisDown, TestLockUnderRedisFaults
//	Redis refuses, for each reason          V      TestRedisRefusesForAReason
//	holder stopped for three times its ttl  V      TestHolderIsStoppedAndGoesOn
//	disk full, read-only, snapshot spoiled  V      TestDiskFails, TestSpoiledSnapshot
//	clock off or stepped by an hour         V      TestOneHostsClockIsWrong
//	slow and many HTTP clients              V L    TestAThousandHalfRequestsStarveNobody in package agent/httpapi
//	random faults, one after the other      V      TestSoak
//
// PEER_TEST_LONG=1 makes the long ones as long as their names say: a partition of
// a day, a soak of a week, 16 real processes one of which is half broken for four
// minutes.
package testcluster
