package httpapi

import (
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/web"
)

// A route is one path of the endpoint, with the query parameters that it
// understands: any other is refused.
type route struct {
	pattern string
	params  []string
	serve   func(s *Server, w http.ResponseWriter, r *http.Request, q query)
}

// Routes that take as long as their client likes.
const (
	eventsRoute  = "GET /v1/events"
	acquireRoute = "POST /v1/locks/{name}"
	holdRoute    = "POST /v1/locks/{name}/hold"
)

// routes is everything that the endpoint answers.
var routes = []route{
	{"GET /{$}", nil, (*Server).servePage},
	{"GET /page.json", nil, (*Server).servePageData},
	{"GET " + web.AssetPrefix + "{file...}", nil, (*Server).serveAsset},

	{"GET /livez", []string{"verbose"}, (*Server).serveLive},
	{"GET /readyz", []string{"verbose"}, (*Server).serveReady},

	{"GET /v1/status", nil, (*Server).serveStatus},
	{"GET /v1/members", []string{"state", "tag", "service", "name", "index", "wait"}, (*Server).serveMembers},
	{"GET /v1/members/{name}", []string{"index", "wait"}, (*Server).serveMember},
	{"POST /v1/members/{name}/forget", nil, (*Server).serveForget},
	{"GET /v1/next", []string{"service", "policy", "key", "tag", "exclude", "count", "service_tag", "explain", "format"}, (*Server).serveNext},
	{"POST /v1/next/report", nil, (*Server).serveReport},
	{"GET /v1/services", []string{"eligible", "service_tag", "index", "wait"}, (*Server).serveServices},
	{"GET /v1/services/{name}", []string{"eligible", "service_tag", "index", "wait"}, (*Server).serveService},
	{"PUT /v1/services/{name}", nil, (*Server).serveRegister},
	{"DELETE /v1/services/{name}", nil, (*Server).serveDeregister},
	{"PUT /v1/services/{name}/pass", nil, (*Server).servePass},
	{"PUT /v1/services/{name}/drain", nil, (*Server).serveDrain},
	{"GET /v1/sd/prometheus", []string{"service"}, (*Server).servePrometheus},
	{"GET /v1/locks", nil, (*Server).serveLocks},
	{"GET /v1/locks/{name}", nil, (*Server).serveLock},
	{acquireRoute, nil, (*Server).serveAcquire},
	{"POST /v1/locks/{name}/renew", nil, (*Server).serveRenew},
	{"DELETE /v1/locks/{name}", []string{"force"}, (*Server).serveRelease},
	{holdRoute, nil, (*Server).serveHold},
	{eventsRoute, []string{"since"}, (*Server).serveEvents},

	{"POST /v1/join", nil, (*Server).serveJoin},
	{"POST /v1/leave", nil, (*Server).serveLeave},
	{"GET /v1/keyring", nil, (*Server).serveKeyring},
	{"POST /v1/keyring", nil, (*Server).serveChangeKeyring},

	{"GET /metrics", []string{"name[]"}, (*Server).serveMetrics},
	{"GET /openapi.json", nil, (*Server).serveOpenAPI},
}

// routing builds the mux, and the set of paths that have no variable.
func (s *Server) routing() (*http.ServeMux, map[string]bool) {
	mux, known := http.NewServeMux(), map[string]bool{}
	for _, rt := range routes {
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) {
			q, p := parseQuery(r.URL.RawQuery, rt.params)
			if p != nil {
				writeProblem(w, r, p)
				return
			}
			if r.PathValue("name") == slashName {
				r.SetPathValue("name", "/")
			}
			rt.serve(s, w, r, q)
		})
		if _, p, _ := strings.Cut(rt.pattern, " "); !strings.Contains(p, "{") {
			known[p] = true
		}
	}
	return mux, known
}

// route hands r to its route, or says that there is none. The pattern is what
// the mux found for r.
func (s *Server) route(w http.ResponseWriter, r *http.Request, pattern string) {
	escaped := r.URL.EscapedPath()
	if clean := path.Clean("/" + escaped); pattern != "" && (clean == escaped || clean+"/" == escaped) {
		s.mux.ServeHTTP(w, r)
		return
	}
	// The mux answers in plain text, and redirects to a tidier path, which
	// would lose a POST. Only the methods that it knows are of use here.
	h, _ := s.mux.Handler(r)
	probe := headerOnly{http.Header{}}
	h.ServeHTTP(probe, r)
	if allow := probe.h.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		writeProblem(w, r, api.NewProblem(http.StatusMethodNotAllowed, "method-not-allowed",
			r.Method+" is not a method of "+r.URL.Path, "use "+allow))
		return
	}
	fix := "see /openapi.json for what there is"
	if near := nearest(r.URL.Path, s.known); near != "" {
		fix = "did you mean " + near + "?"
	}
	writeProblem(w, r, api.NewProblem(http.StatusNotFound, api.KindNotFound, "there is no "+quotePath(r.URL), fix))
}

// slashName stands for the name / in a path: the mux takes a segment %2F for the
// end of a path. No name has it in it.
const slashName = "\x00/"

// nameSegments makes segments ., .. and %2F under /v1/locks/ names like any other, which
// they are there. The mux would take the dots for a way through directories;
// some clients escape them, and the others mean the same.
func nameSegments(u *url.URL) {
	escaped := u.EscapedPath()
	if !strings.HasPrefix(escaped, "/v1/locks/") {
		return
	}
	segments := strings.Split(escaped, "/")
	for i, s := range segments {
		switch s {
		case ".", "..":
			segments[i] = api.PathSegment(s)
		case "%2F", "%2f":
			segments[i] = url.PathEscape(slashName)
		}
	}
	raw := strings.Join(segments, "/")
	if path, err := url.PathUnescape(raw); err == nil {
		u.Path, u.RawPath = path, raw
	}
}

func quotePath(u *url.URL) string {
	p := u.EscapedPath()
	if len(p) > 200 {
		p = p[:200] + "…"
	}
	return p
}

// headerOnly is a ResponseWriter that keeps nothing but headers.
type headerOnly struct{ h http.Header }

func (w headerOnly) Header() http.Header         { return w.h }
func (w headerOnly) Write(b []byte) (int, error) { return len(b), nil }
func (w headerOnly) WriteHeader(int)             {}
