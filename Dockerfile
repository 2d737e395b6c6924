# The app, for people who host it themselves:
#   docker build -t age-gender . && docker run --rm -p 7860:7860 age-gender
FROM python:3.12-slim-bookworm
RUN useradd --create-home app
WORKDIR /home/app/kit
COPY space/requirements.txt space/requirements.txt
RUN pip install --no-cache-dir -r space/requirements.txt
COPY app.py LICENSE ./
COPY space space
COPY browser browser
USER app
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/', timeout=5)"]
CMD ["python", "app.py", "--host", "0.0.0.0", "--port", "7860"]
