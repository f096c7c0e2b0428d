"""Starts programs in each way; the argument is a static program."""
import os
import subprocess
import sys

static = sys.argv[1]
python = [sys.executable, "-c", "import sys; print('python', len([0] * 9000)); sys.exit(6)"]

def run(command, **more):
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    print(ran.returncode, ran.stdout.decode().strip(), flush=True)

def wait(pid):
    print("ended", os.waitpid(pid, 0)[1], flush=True)

run(python)
run(["/bin/sh", "-c", "echo shell; exit 3"])
run(["/bin/sh", "-c", '"$0" -c "print(1)"; echo after', sys.executable])
run([static])
run([static], close_fds=False)
run(["/bin/true"], preexec_fn=lambda: None)
run([static], preexec_fn=lambda: None)
run(["/bin/echo", "session"], start_new_session=True)
wait(os.posix_spawn("/bin/true", ["true"], os.environ))
wait(os.posix_spawn(sys.executable, python, os.environ))
wait(os.posix_spawn(static, [static], os.environ))
print(os.system("exit 5") >> 8, os.popen("echo popen").read().strip(), flush=True)
child = os.fork()
if child == 0:
    os.execv("/bin/true", ["true"])
wait(child)
try:
    subprocess.run(["/does/not/exist"])
except FileNotFoundError as error:
    print(error.filename)
