package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Services answers GET /v1/services: the services of the whole cluster, by name.
type Services struct {
	Schema   string         `json:"schema"`
	SeenBy   string         `json:"seen_by"`
	Index    uint64         `json:"index"` // moves only when the services change
	AsOf     time.Time      `json:"as_of"`
	Services []ServiceGroup `json:"services"` // sorted by name
}

// ServiceGroup is one service, wherever it runs, and answers
// GET /v1/services/{name}.
type ServiceGroup struct {
	Name      string            `json:"name"`
	Index     uint64            `json:"index"`    // moves only when this service changes
	Eligible  int               `json:"eligible"` // instances that are handed out
	Tags      []string          `json:"tags"`     // of any instance, sorted
	Instances []ServiceInstance `json:"instances"`
}

// ServiceInstance is a service on one host.
type ServiceInstance struct {
	Node     string            `json:"node"`
	Addr     string            `json:"addr"`
	Port     uint16            `json:"port"`
	Tags     []string          `json:"tags"`
	Weight   int               `json:"weight"`
	Health   string            `json:"health"` // passing, warning, critical, or "" when unchecked
	Draining bool              `json:"draining"`
	Meta     map[string]string `json:"meta"`
	State    string            `json:"state"`    // of the member: alive, suspect, failed
	Eligible bool              `json:"eligible"` // it is handed out
	NodeTags map[string]string `json:"node_tags"`
	RTTMS    *float64          `json:"rtt_ms"`
	Self     bool              `json:"self"` // it runs on the host of the agent that is asked

	// Local is what only the agent beside the service knows.
	Local *LocalService `json:"local,omitempty"`
}

// LocalService is how the agent beside a service came to know of it, and what
// its check found last.
type LocalService struct {
	Origin string       `json:"origin"` // config, or runtime: registered over HTTP
	Check  *CheckStatus `json:"check"`  // null when unchecked
}

// CheckStatus is what a check found last.
type CheckStatus struct {
	Kind      string     `json:"kind"` // http, tcp, grpc, ttl
	Target    string     `json:"target"`
	Output    string     `json:"output"`
	Since     time.Time  `json:"since"`      // when the health became what it is
	CheckedAt *time.Time `json:"checked_at"` // null before the first result
	TookMS    *float64   `json:"took_ms"`
}

// Registration is the body of PUT /v1/services/{name}.
type Registration struct {
	Port     uint16            `json:"port,omitempty"`
	Addr     string            `json:"addr,omitempty"` // empty means the host's own address
	Tags     []string          `json:"tags,omitempty"`
	Weight   *int              `json:"weight,omitempty"` // 1 to 1000; default 1
	Meta     map[string]string `json:"meta,omitempty"`
	Check    *ServiceCheck     `json:"check,omitempty"`
	Draining bool              `json:"draining,omitempty"`
}

// ServiceCheck says how a service is checked: by exactly one of HTTP, TCP, GRPC
// and TTL.
type ServiceCheck struct {
	HTTP       string `json:"http,omitempty"`        // a URL
	TCP        string `json:"tcp,omitempty"`         // HOST:PORT
	GRPC       string `json:"grpc,omitempty"`        // HOST:PORT or HOST:PORT/SERVICE
	TTLMS      int64  `json:"ttl_ms,omitempty"`      // how long a sign of life lasts
	IntervalMS int64  `json:"interval_ms,omitempty"` // default 10,000
	TimeoutMS  int64  `json:"timeout_ms,omitempty"`  // default 5,000
	Rise       int    `json:"rise,omitempty"`        // default 2
	Fall       int    `json:"fall,omitempty"`        // default 3
}

// PassRequest is the body of PUT /v1/services/{name}/pass: a sign of life of a
// service with a TTL. Empty means that it is well.
type PassRequest struct {
	Health string `json:"health,omitempty"` // passing, warning or critical; default passing
	Output string `json:"output,omitempty"` // one line for a person
}

// DrainRequest is the body of PUT /v1/services/{name}/drain.
type DrainRequest struct {
	Draining bool `json:"draining"`
}

// ServicesQuery narrows a read of services. Its zero value asks for all, now.
type ServicesQuery struct {
	Eligible bool   // only instances that are handed out
	Tag      string // only instances with this tag of the service

	// Index and Wait make the read block: it answers when the services are newer
	// than Index, or after Wait, at the most ten minutes.
	Index uint64
	Wait  time.Duration
}

// Values returns q as a query string.
func (q ServicesQuery) Values() url.Values {
	v := url.Values{}
	if q.Eligible {
		v.Set("eligible", "true")
	}
	set(v, "service_tag", q.Tag)
	if q.Wait > 0 {
		v.Set("index", strconv.FormatUint(q.Index, 10))
		v.Set("wait", q.Wait.String())
	}
	return v
}

// Services asks for the services of the whole cluster.
func (c *Client) Services(ctx context.Context, q ServicesQuery) (Services, error) {
	return get[Services](ctx, c, "/v1/services", q.Values(), q.Wait)
}

// Service asks where one service runs. One that runs nowhere is a *Problem of
// kind KindNoService, with the Index from which to wait for it to come.
func (c *Client) Service(ctx context.Context, name string, q ServicesQuery) (ServiceGroup, error) {
	return get[ServiceGroup](ctx, c, "/v1/services/"+PathSegment(name), q.Values(), q.Wait)
}

// Register announces a service that runs beside the agent, or replaces what was
// registered by its name. The agent keeps it over a restart when it has a data
// dir.
func (c *Client) Register(ctx context.Context, name string, r Registration) error {
	return c.put(ctx, "/v1/services/"+PathSegment(name), r)
}

// Deregister takes back a registration.
func (c *Client) Deregister(ctx context.Context, name string) error {
	_, err := c.Raw(ctx, http.MethodDelete, "/v1/services/"+PathSegment(name), nil, nil)
	return err
}

// Pass is the sign of life of a service with a TTL.
func (c *Client) Pass(ctx context.Context, name string, r PassRequest) error {
	return c.put(ctx, "/v1/services/"+PathSegment(name)+"/pass", r)
}

// Drain takes a service of this agent's host out of every host's rotation, and
// leaves it visible, or puts it back.
func (c *Client) Drain(ctx context.Context, name string, draining bool) error {
	return c.put(ctx, "/v1/services/"+PathSegment(name)+"/drain", DrainRequest{Draining: draining})
}

// Report tells the agent how a request to a peer has gone: one that failed cools
// down in this agent's rotation, and in no other's.
func (c *Client) Report(ctx context.Context, r NextReport) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	_, err = c.Raw(ctx, http.MethodPost, "/v1/next/report", nil, body)
	return err
}

func (c *Client) put(ctx context.Context, path string, doc any) error {
	body, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	_, err = c.Raw(ctx, http.MethodPut, path, nil, body)
	return err
}
