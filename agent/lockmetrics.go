package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peerhq/peer/lockclient"
)

// lockMetrics count what the lock client's Stats do not tell. Their labels are
// from the lists here.
type lockMetrics struct {
	acquire *prometheus.HistogramVec
	lost    *prometheus.CounterVec
}

var (
	acquireResults = []string{"acquired", "held", "unavailable", "cancelled"}
	lostReasons    = []string{"expired", "taken", "forced", "unavailable"}
)

func newLockMetrics() *lockMetrics {
	m := &lockMetrics{
		acquire: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "peer_lock_acquire_seconds",
			Help:    "Time from asking for a lock over HTTP to having it or giving up, by result.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10, 60, 300},
		}, []string{"result"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "peer_lock_lost_total",
			Help: "Locks lost by this agent, by reason.",
		}, []string{"reason"}),
	}
	for _, r := range acquireResults {
		m.acquire.WithLabelValues(r)
	}
	for _, r := range lostReasons {
		m.lost.WithLabelValues(r)
	}
	return m
}

// observe counts one try to get a lock. Result is one of acquireResults.
func (m *lockMetrics) observe(result string, took time.Duration) {
	m.acquire.WithLabelValues(result).Observe(took.Seconds())
}

// event counts locks that are lost.
func (m *lockMetrics) event(e lockclient.Event) {
	if e.Type == lockclient.LockLost {
		m.lost.WithLabelValues(lostLabel(e.Reason)).Inc()
	}
}

// lostLabel is which of lostReasons an event's Reason is.
func lostLabel(reason string) string {
	switch reason {
	case lockclient.ErrExpired.Error():
		return "expired"
	case lockclient.ErrStolen.Error():
		return "taken"
	case lockclient.ErrForced.Error():
		return "forced"
	}
	return "unavailable"
}
