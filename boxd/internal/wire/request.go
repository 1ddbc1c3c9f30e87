package wire

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// BadRequest is a request that cannot be parsed; the connection is closed after the answer.
type BadRequest struct {
	Status int
	Reason string
}

func (b *BadRequest) Error() string { return b.Reason }

// ErrBodyTooLarge means that a body is longer than the reader allows.
var ErrBodyTooLarge = errors.New("the body is too large")

// Request is one parsed request. Header names are lower case; a repeated header is refused.
type Request struct {
	Method string
	Path   string
	Query  url.Values
	Header map[string]string
	Body   io.Reader

	contentLength int64 // -1 for a chunked body
	expects100    bool
	wantsClose    bool
	body          *bodyReader
}

const maxHeaderLines = 64

func readRequest(reader *bufio.Reader, headerBytes int) (*Request, error) {
	left := headerBytes
	line, err := readLine(reader, &left)
	if err != nil {
		return nil, err
	}
	request, err := parseRequestLine(line)
	if err != nil {
		return nil, err
	}
	for lines := 0; ; lines++ {
		line, err = readLine(reader, &left)
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		if lines == maxHeaderLines {
			return nil, &BadRequest{431, "too many header lines"}
		}
		if err = request.addHeader(line); err != nil {
			return nil, err
		}
	}
	return request, request.readFraming()
}

// readLine returns one line without its end. A line longer than what is left is an error, so that a peer cannot fill memory.
func readLine(reader *bufio.Reader, left *int) (string, error) {
	var whole []byte
	for {
		part, err := reader.ReadSlice('\n')
		*left -= len(part)
		if *left < 0 {
			return "", &BadRequest{431, "the header is too large"}
		}
		whole = append(whole, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
	line := strings.TrimSuffix(string(whole[:len(whole)-1]), "\r")
	if strings.ContainsAny(line, "\r\x00") {
		return "", &BadRequest{400, "a control character in the header"}
	}
	return line, nil
}

func parseRequestLine(line string) (*Request, error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 {
		return nil, &BadRequest{400, "a malformed request line"}
	}
	if parts[2] != "HTTP/1.1" {
		return nil, &BadRequest{505, "HTTP/1.1 only"}
	}
	target, err := url.ParseRequestURI(parts[1])
	if err != nil || !strings.HasPrefix(parts[1], "/") {
		return nil, &BadRequest{400, "a malformed request target"}
	}
	query, err := url.ParseQuery(target.RawQuery)
	if err != nil {
		return nil, &BadRequest{400, "a malformed query"}
	}
	return &Request{Method: parts[0], Path: target.Path, Query: query, Header: make(map[string]string, 8)}, nil
}

func (r *Request) addHeader(line string) error {
	name, value, found := strings.Cut(line, ":")
	if !found || name == "" || strings.ContainsAny(name, " \t") {
		return &BadRequest{400, "a malformed header line"}
	}
	name = strings.ToLower(name)
	if _, twice := r.Header[name]; twice {
		return &BadRequest{400, "a repeated header: " + name}
	}
	r.Header[name] = strings.Trim(value, " \t")
	return nil
}

// readFraming determines the length of the body; anything ambiguous is refused.
func (r *Request) readFraming() error {
	length, hasLength := r.Header["content-length"]
	encoding, hasEncoding := r.Header["transfer-encoding"]
	switch {
	case hasLength && hasEncoding:
		return &BadRequest{400, "both Content-Length and Transfer-Encoding"}
	case hasEncoding:
		if !strings.EqualFold(encoding, "chunked") {
			return &BadRequest{501, "an unknown Transfer-Encoding"}
		}
		r.contentLength = -1
	case hasLength:
		n, err := strconv.ParseUint(length, 10, 62)
		if err != nil {
			return &BadRequest{400, "a malformed Content-Length"}
		}
		r.contentLength = int64(n)
	}
	r.expects100 = strings.EqualFold(r.Header["expect"], "100-continue")
	r.wantsClose = strings.EqualFold(r.Header["connection"], "close")
	return nil
}

func (r *Request) attachBody(conn *countedConn, reader *bufio.Reader, progress time.Duration) {
	r.body = &bodyReader{conn: conn, reader: reader, progress: progress, expects100: r.expects100}
	if r.contentLength < 0 {
		r.body.chunked = true
	} else {
		r.body.left = r.contentLength
		r.body.done = r.contentLength == 0
	}
	r.Body = r.body
}

// drain reads the rest of the body, so that the next request starts at its first byte.
func (r *Request) drain() bool {
	const worthReading = 256 << 10
	if r.body.done {
		return true
	}
	if r.body.expects100 {
		return false
	}
	_, err := io.CopyN(io.Discard, r.body, worthReading)
	return errors.Is(err, io.EOF)
}

// ReadJSON decodes a body of at most limit bytes; unknown fields and trailing data are refused.
// An empty body decodes as {}.
func (r *Request) ReadJSON(into any, limit int64) error {
	data, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return err
	}
	if int64(len(data)) > limit {
		return ErrBodyTooLarge
	}
	return DecodeStrict(data, into)
}

// DecodeStrict is used for all JSON that boxd reads.
func DecodeStrict(data []byte, into any) error {
	if len(data) == 0 {
		data = []byte("{}")
	}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the JSON value")
	}
	return nil
}
