// Command gossip measures peer beside serf: the same faults, done to real agents
// of both, one after the other in one run, on network namespaces in which there
// is nothing else. It prints a table with a line for each thing that was
// measured: ours, serf's, their ratio, the bar that ours has to meet, and
// whether it does.
//
//	cd testcluster/versus
//	go run ./gossip                    # everything, an hour and a quarter
//	go run ./gossip -rows kill,stop    # some rows
//	go run ./gossip -list              # which there are
//	go run ./gossip -md                # as Markdown
//	go run ./gossip -rows churn-rss    # ten minutes of trouble, not in the usual run
//
// serf is built from its module, at the version in this module's go.mod, and
// runs with its LAN profile; peer is built from the repository around, and runs
// with its defaults. Neither has a gossip key unless -encrypt is given. Clusters
// have ten agents where the row does not say otherwise.
//
// # How it measures
//
// Each figure is taken in a worker: this program again, in network, mount and
// process namespaces of its own. It starts the agents on addresses of their own
// in 127.0.0.0/8, does something to some of them, and reads the views of all
// others until what it waits for holds in all of them at one moment. The time
// runs from just before the signal or the start of the process. Rows that cut
// the network put each agent on a host of its own instead, a namespace at the
// end of a veth pair, and drop packets in between, silently.
//
// A peer is read through GET /v1/members, which answers when something is new;
// a serf agent is polled over its RPC port every 5 ms, or one percent of the
// time that has passed if that is longer. So a figure for serf can be late by
// that much, and one for peer by the way of an HTTP answer. Out of rotation
// means anything but alive. What an agent called failed is counted in its log,
// so that nothing is missed between two polls.
//
// Idle figures are taken while nobody reads, of peer, serf and a floor of bare
// memberlist (the command bare) at the same time: the processor time of each
// process from the kernel's clock for it, the traffic from the counters of the
// loopback interface, headers included.
//
// # What it needs
//
// Linux, the go tool, and root, or a kernel that lets users make namespaces;
// the rows cable and heal also need ip (iproute2) and nft (nftables). It
// listens only inside its namespaces. When it ends, however it ends, the kernel
// ends what runs in there, and the namespaces with it.
//
// Figures depend on the machine, and on what else runs on it: the load is
// printed with them.
package main
