// net/http of Go against answers that come before a body was sent: see client.py.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

// zeros is a body whose length net/http does not know.
type zeros struct{ left int }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := len(p)
	if n > z.left {
		n = z.left
	}
	z.left -= n
	return n, nil
}

func ask(base, method, path, kind, form string, size int) string {
	var body io.Reader = &zeros{size}
	if form == "length" {
		body = bytes.NewReader(make([]byte, size))
	}
	request, err := http.NewRequest(method, base+path, body)
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Content-Type", kind)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	if !bytes.HasPrefix(text, []byte("{")) {
		return fmt.Sprintf("%d without a problem", answer.StatusCode)
	}
	return strconv.Itoa(answer.StatusCode)
}

func main() {
	a := os.Args[2:] // the first names the library, of which there is one
	megabytes, _ := strconv.Atoi(a[5])
	times, _ := strconv.Atoi(a[7])
	got := map[string]int{}
	for i := 0; i < times; i++ {
		got[ask(a[0], a[2], a[3], a[4], a[6], megabytes<<20)]++
	}
	fmt.Println(got[a[1]], got)
}
