package testcluster_test

import (
	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/testcluster"
)

var _ cluster.Network = (*testcluster.Host)(nil)
